"""Checkpoints and validation predictions that are either complete or absent."""

from __future__ import annotations

import zipfile
from pathlib import Path

from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import written_beside
from nnunetv2_sam2_3dmed.images.integrity import check_content


class WholeFilesTrainer(nnUNetTrainer):
    """nnU-Net's trainer, which checks the files it has written."""

    def save_checkpoint(self, filename: str) -> None:
        """Save as nnU-Net does, to a temporary file that is then renamed: a failure leaves the older checkpoint.

        Raises:
            UserError: it cannot be written.
        """
        if self.local_rank != 0 or self.disable_checkpointing:
            super().save_checkpoint(filename)  # writes nothing
            return
        file = Path(filename)
        partial = f"{file.name}.partial"
        with written_beside(file, check=check_complete, failures=(RuntimeError,), name=partial) as beside:
            super().save_checkpoint(str(beside))

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        """Validate as nnU-Net does, whose writers do not notice a full disk, and check the predictions.

        Raises:
            UserError: a prediction is not whole; ``summary.json``, with its score, is deleted.
        """
        try:
            super().perform_actual_validation(save_probabilities)
        except Exception:  # does not say what is wrong with a file that nnU-Net's evaluation cannot read
            self._check_validation()
            raise
        self._check_validation()

    def _check_validation(self) -> None:
        if self.local_rank == 0:
            check_validation(Path(self.output_folder) / "validation", self.dataset_json["file_ending"])


def check_complete(checkpoint: Path) -> None:
    """Look for the directory at the end of a checkpoint, which torch writes last.

    Raises:
        UserError: it is not there.
    """
    if not zipfile.is_zipfile(checkpoint):
        raise UserError(f"{checkpoint} is incomplete; check the free space of the disk.")


def check_validation(folder: Path, file_ending: str) -> None:
    """Check the predictions of a validation.

    Raises:
        UserError: a prediction is not whole; ``summary.json``, with its score, is deleted.
    """
    problems = []
    for file in sorted(folder.glob(f"[!.]*{file_ending}")):
        try:
            check_content(file)
        except UserError as error:
            problems.append((file, error))
    if problems:
        (folder / "summary.json").unlink(missing_ok=True)
        names = ", ".join(file.name for file, _ in problems[:5]) + (", ..." if len(problems) > 5 else "")
        raise UserError(
            f"{len(problems)} predictions of the validation in {folder} are not whole ({names}), perhaps because the "
            "disk is full; summary.json was deleted: make room and validate again with --val."
        ) from problems[0][1]
