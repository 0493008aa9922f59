"""Detection of truncated files that a prediction reads or writes, which nnU-Net's readers and writers do not notice."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.integrity import check_content
from nnunetv2_sam2_3dmed.nnunet.raw_files import cases_in, check_files

_AHEAD = 2  # cases that are read through before it is their turn


class WholeFilesPredictor(nnUNetPredictor):
    """nnU-Net's predictor, which neither segments half an image nor leaves half a segmentation unnoticed.

    Headers and lengths of all images are looked at first; checksums, which take about as long as reading, when it is a
    case's turn, so that a thousand images need not be read twice before the first is segmented.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._outputs: list[str] = []  # that are to be written, without their ending
        self._left_out: dict[str, str] = {}  # what is wrong with the files of a case, by its name

    def _manage_input_and_output_lists(
        self,
        list_of_lists_or_source_folder: str | list[list[str]],
        output_folder_or_list_of_truncated_output_files: str | list[str] | None,
        folder_with_segs_from_prev_stage: str | None = None,
        overwrite: bool = True,
        part_id: int = 0,
        num_parts: int = 1,
        save_probabilities: bool = False,
    ) -> tuple[list[list[str]], list[str] | None, list[str | None]]:
        """Find cases as nnU-Net does, but count no broken segmentation as finished, and no hidden file as an image.

        A case of which an image or the segmentation of the previous stage is missing or incomplete is left out.
        """
        given = list_of_lists_or_source_folder
        if isinstance(given, str):
            found = cases_in(Path(given), self.dataset_json["file_ending"])
            given = [[str(file) for file in files] for files in found.values()]
        cases, outputs, earlier = super()._manage_input_and_output_lists(
            given,
            output_folder_or_list_of_truncated_output_files,
            folder_with_segs_from_prev_stage,
            True,
            part_id,
            num_parts,
            save_probabilities,
        )
        self._outputs = []
        left = list(range(len(cases)))
        if not overwrite and outputs is not None:
            left = [i for i in left if not self.is_finished(outputs[i], save_probabilities)]
            print(f"{len(left)} cases have no whole segmentation yet.")
        left = [i for i in left if self._is_there(_name_of(cases[i], outputs, i), _files_of(cases[i], earlier[i]))]
        cases, outputs, earlier = ([kept[i] for i in left] if kept else kept for kept in (cases, outputs, earlier))
        self._outputs = outputs or []
        return cases, outputs, earlier

    # nnU-Net notes the values of its own parameters, which it looks up by these names
    def predict_from_files(
        self,
        list_of_lists_or_source_folder: str | list[list[str]],
        output_folder_or_list_of_truncated_output_files: str | list[str] | None,
        save_probabilities: bool = False,
        overwrite: bool = True,
        num_processes_preprocessing: int = default_num_processes,
        num_processes_segmentation_export: int = default_num_processes,
        folder_with_segs_from_prev_stage: str | None = None,
        num_parts: int = 1,
        part_id: int = 0,
    ) -> Any:
        """Predict as nnU-Net does; a case with damaged files is left out, and named when the others are done.

        Raises:
            UserError: a file that is read is not whole, or one that was written.
        """
        with self._told_at_the_end():
            return super().predict_from_files(
                list_of_lists_or_source_folder,
                output_folder_or_list_of_truncated_output_files,
                save_probabilities,
                overwrite,
                num_processes_preprocessing,
                num_processes_segmentation_export,
                folder_with_segs_from_prev_stage,
                num_parts,
                part_id,
            )

    def predict_from_files_sequential(
        self,
        list_of_lists_or_source_folder: str | list[list[str]],
        output_folder_or_list_of_truncated_output_files: str | list[str] | None,
        save_probabilities: bool = False,
        overwrite: bool = True,
        folder_with_segs_from_prev_stage: str | None = None,
    ) -> Any:
        """Predict without processes as nnU-Net does; see :meth:`predict_from_files`.

        Raises:
            UserError: a file that is read is cut off, or one that was written is not whole.
        """
        with self._told_at_the_end():
            return super().predict_from_files_sequential(
                list_of_lists_or_source_folder,
                output_folder_or_list_of_truncated_output_files,
                save_probabilities,
                overwrite,
                folder_with_segs_from_prev_stage,
            )

    @contextmanager
    def _told_at_the_end(self) -> Iterator[None]:
        """Predict all that can be predicted, then name the cases of which there is no whole segmentation.

        Raises:
            UserError: there are such cases.
        """
        self._outputs, self._left_out, told = [], {}, []
        try:
            yield
        except UserError as error:
            told = [str(error)]
        if self._left_out:
            first = next(iter(self._left_out.values())).removesuffix(".")
            told.insert(0, f"{first}; {len(self._left_out)} cases were not segmented: {', '.join(self._left_out)}")
        broken = [
            output
            for output in self._outputs
            if Path(output).name not in self._left_out
            and not self.is_finished(output, probabilities=False)
            # one that was left out for another reason has none
            and (not told or Path(output + self.dataset_json["file_ending"]).exists())
        ]
        if broken:
            ending = self.dataset_json["file_ending"]
            names = ", ".join(Path(output).name + ending for output in broken[:5]) + (", ..." if broken[5:] else "")
            told.append(
                f"{len(broken)} segmentations in {Path(broken[0]).parent} are not whole ({names}), perhaps because the "
                "disk is full: make room and go on with --continue_prediction"
            )
        if told:
            raise UserError(f"{'; '.join(sentence.removesuffix('.') for sentence in told)}.")

    def _is_there(self, case: str, files: Sequence[Path]) -> bool:
        try:
            check_files(files)
        except UserError as error:
            self._leave_out(case, str(error))
            return False
        return True

    def _leave_out(self, case: str, problem: str) -> None:
        self._left_out[case] = problem
        print(f"WARNING: {problem}", file=sys.stderr)

    def _internal_get_data_iterator_from_lists_of_filenames(
        self,
        input_list_of_lists: list[list[str]],
        seg_from_prev_stage_files: list[str | None] | None,
        output_filenames_truncated: list[str] | None,
        num_processes: int,
    ) -> Iterator[dict[str, Any]]:
        cases = super()._internal_get_data_iterator_from_lists_of_filenames(
            input_list_of_lists, seg_from_prev_stage_files, output_filenames_truncated, num_processes
        )
        earlier = seg_from_prev_stage_files or [None] * len(input_list_of_lists)
        files = {
            _name_of(case, output_filenames_truncated, i): _files_of(case, earlier[i])
            for i, case in enumerate(input_list_of_lists)
        }
        return self._whole(cases, files, 3 * num_processes)

    def _whole(
        self, cases: Iterator[dict[str, Any]], files_of: Mapping[str, Sequence[Path]], at_work: int
    ) -> Iterator[dict[str, Any]]:
        """The preprocessed cases whose files are whole; what is wrong with the others is kept.

        Args:
            cases: in the order of their files.
            files_of: by the name of each case.
            at_work: so many cases can be under way in nnU-Net's processes.
        """
        names, files = list(files_of), list(files_of.values())
        with ThreadPoolExecutor(1) as thread:
            looked_at = {number: thread.submit(_problem, files[number]) for number in range(min(_AHEAD, len(files)))}
            for number in range(len(files)):
                try:
                    case = next(cases)
                except StopIteration:
                    return
                except RuntimeError as error:  # a process of nnU-Net's gave up, perhaps because of a file
                    problems = [_problem(own) for own in files[number : number + at_work]]
                    raise RuntimeError(next((problem for problem in problems if problem), str(error))) from error
                problem = looked_at.pop(number).result()
                if number + _AHEAD < len(files):
                    looked_at[number + _AHEAD] = thread.submit(_problem, files[number + _AHEAD])
                if problem is None:
                    yield case
                else:
                    self._leave_out(names[number], problem)

    def is_finished(self, output: str, probabilities: bool) -> bool:
        """Ask whether a segmentation is there and whole.

        Args:
            output: its file without the ending.
            probabilities: whether it needs the file of its probabilities.
        """
        try:
            check_content(Path(output + self.dataset_json["file_ending"]))
        except UserError:
            return False
        return not probabilities or zipfile.is_zipfile(f"{output}.npz")


def check_images(files: Sequence[Path]) -> None:
    """Read the files of a case completely.

    Raises:
        UserError: one is not whole.
    """
    problem = _problem(files)
    if problem is not None:
        raise UserError(problem)


def _problem(files: Sequence[Path]) -> str | None:
    """The sentence about the first file that is not whole, or has voxels that are no numbers."""
    for file in files:
        try:
            check_content(file)
        except UserError as error:
            return str(error)
    return None


def _name_of(case: Sequence[str], outputs: Sequence[str] | None, index: int) -> str:
    return Path(case[0] if outputs is None else outputs[index]).name


def _files_of(case: Sequence[str], earlier: str | None) -> list[Path]:
    """The files that are read for a case: its channels, and the segmentation of the previous stage if there is one."""
    return [Path(file) for file in (*case, earlier) if file]
