"""Files that a prediction reads and writes: nnU-Net's readers and writers do not notice what is missing."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.integrity import check_content, count_not_finite
from nnunetv2_sam2_3dmed.raw_files import cases_in, check_files

_AHEAD = 2  # cases that are read through before it is their turn


class WholeFilesPredictor(nnUNetPredictor):
    """nnU-Net's predictor, which neither segments half an image nor leaves half a segmentation unnoticed.

    Headers and lengths of all images are looked at first; checksums, which take about as long as reading, when it is a
    case's turn, so that a thousand images need not be read twice before the first is segmented.
    """

    _outputs: list[str]  # that are to be written, without their ending
    _unread: list[str]  # what is wrong with images that could not be read

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
        """As nnU-Net's, but a broken segmentation is none that is finished, and hidden files are no images.

        Raises:
            UserError: an image or a segmentation of the previous stage is missing or incomplete.
        """
        given = list_of_lists_or_source_folder
        if isinstance(given, str):
            given = cases_in(Path(given), self.dataset_json["file_ending"])
        cases, outputs, earlier = super()._manage_input_and_output_lists(
            given,
            output_folder_or_list_of_truncated_output_files,
            folder_with_segs_from_prev_stage,
            True,
            part_id,
            num_parts,
            save_probabilities,
        )
        if not overwrite and outputs is not None:
            left = [i for i, output in enumerate(outputs) if not self._is_finished(output, save_probabilities)]
            cases, outputs, earlier = ([kept[i] for i in left] for kept in (cases, outputs, earlier))
            print(f"{len(left)} cases have no whole segmentation yet.")
        check_files(Path(file) for case, before in zip(cases, earlier) for file in (*case, *([before] * bool(before))))
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
        """As nnU-Net's. A case whose files are damaged is left out, and named when the others are done.

        Raises:
            UserError: a file that is read is not whole, or one that was written.
        """
        self._outputs, self._unread, result = [], [], None
        try:
            result = super().predict_from_files(
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
        except UserError:  # told already; those cases are among the ones named below
            if not self._unread:
                raise
        broken = [output for output in self._outputs if not self._is_finished(output, probabilities=False)]
        if self._unread:
            cases = ", ".join(Path(output).name for output in broken)
            raise UserError(f"{self._unread[0].removesuffix('.')}; {len(broken)} cases were not segmented: {cases}.")
        if broken:
            ending = self.dataset_json["file_ending"]
            names = ", ".join(Path(output).name + ending for output in broken[:5]) + (", ..." if broken[5:] else "")
            raise UserError(
                f"{len(broken)} segmentations in {Path(broken[0]).parent} are not whole ({names}), perhaps because the "
                "disk is full: make room and go on with --continue_prediction."
            )
        return result

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
        files = [[Path(f) for f in (*case, before) if f] for case, before in zip(input_list_of_lists, earlier)]
        return self._whole(cases, files, 3 * num_processes)

    def _whole(
        self, cases: Iterator[dict[str, Any]], files: Sequence[Sequence[Path]], at_work: int
    ) -> Iterator[dict[str, Any]]:
        """The preprocessed cases whose files are whole; what is wrong with the others is kept.

        Args:
            cases: in the order of their files.
            files: of each case.
            at_work: so many cases can be under way in nnU-Net's processes.
        """
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
                    self._unread.append(problem)
                    print(f"WARNING: {problem}", file=sys.stderr)

    def _is_finished(self, output: str, probabilities: bool) -> bool:
        try:
            check_content(Path(output + self.dataset_json["file_ending"]))
        except UserError:
            return False
        return not probabilities or zipfile.is_zipfile(f"{output}.npz")


def check_images(files: Sequence[Path]) -> None:
    """Reads the files of a case through.

    Raises:
        UserError: one is not whole.
    """
    problem = _problem(files)
    if problem is not None:
        raise UserError(problem)


def _problem(files: Sequence[Path]) -> str | None:
    """The sentence about the first file that is not whole; NaN, which nnU-Net takes, is only told."""
    for file in files:
        try:
            wrong = count_not_finite(file)
        except UserError as error:
            return str(error)
        if wrong:
            print(f"WARNING: {file} holds {wrong} values that are NaN or infinite.")
    return None
