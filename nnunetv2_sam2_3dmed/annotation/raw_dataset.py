"""A dataset in nnU-Net's raw folder that can take new cases."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.labels import foreground_classes, ignore_label
from nnunetv2_sam2_3dmed.files import read_json
from nnunetv2_sam2_3dmed.images.volumes import WRITABLE
from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, nnunet_folder


@dataclass(frozen=True)
class RawDataset:
    """Labels and files of a dataset.

    Attributes:
        name: such as ``Dataset009_Spleen``.
        folder: in nnUNet_raw.
        ending: of its files.
        objects: names of the foreground classes by label.
        labels: all values that a mask may have.
    """

    name: str
    folder: Path
    ending: str
    objects: dict[int, str]
    labels: frozenset[int]

    @property
    def json_file(self) -> Path:
        return self.folder / "dataset.json"

    def image(self, case: str) -> Path:
        return self.folder / "imagesTr" / f"{case}_0000{self.ending}"

    def label(self, case: str) -> Path:
        return self.folder / "labelsTr" / f"{case}{self.ending}"

    def has(self, case: str) -> bool:
        """Whether there is a training case of that name, or half of one."""
        return self.image(case).exists() or self.label(case).exists()

    def cases(self) -> list[str]:
        """All training cases, sorted."""
        end = f"_0000{self.ending}"
        return sorted(file.name.removesuffix(end) for file in (self.folder / "imagesTr").glob(f"[!.]*{end}"))


def open_dataset(name_or_id: str) -> RawDataset:
    """The dataset of a name or number.

    Raises:
        UserError: it is not there, or new cases cannot be taken into it: its images have several channels, its labels
            are regions, its cases are listed in dataset.json, or masks cannot be written in its format.
    """
    name = dataset_name(name_or_id)
    folder = nnunet_folder("nnUNet_raw") / name
    file = folder / "dataset.json"
    if not file.is_file():
        raise UserError(f"there is no {file}: set nnUNet_raw to the folder that has the raw images of {name}.")
    content: dict[str, Any] = read_json(file, "mend it")
    channels = len(_channel_names(file, content))
    if channels != 1:
        raise UserError(
            f"the images of {name} have {channels} channels, but prompts are for images of one: make a dataset of one "
            "of the channels."
        )
    if "dataset" in content:
        raise UserError(
            f"{file} lists its cases one by one (the key 'dataset'), but new ones are put into imagesTr and labelsTr: "
            "move its files there and take the list out."
        )
    classes = foreground_classes(content)
    if any(len(values) > 1 for values in classes.values()):
        raise UserError(f"{name} has regions, but an object gets one label: make a dataset with labels.")
    ending = content["file_ending"]
    if ending not in WRITABLE:
        raise UserError(f"the files of {name} end in {ending}, but masks are written as {', '.join(WRITABLE)}.")
    objects = {values[0]: class_name for class_name, values in classes.items()}
    ignored = ignore_label(content)
    return RawDataset(
        name, folder, ending, objects, frozenset({0, *objects} | ({ignored} if ignored is not None else set()))
    )


def _channel_names(file: Path, content: Any) -> dict[str, str]:
    """Of a ``dataset.json``, old or new.

    Raises:
        UserError: it has none, or lacks something else.
    """
    names = content.get("channel_names", content.get("modality")) if isinstance(content, dict) else None
    if not isinstance(names, dict) or not isinstance(content.get("labels"), dict) or "file_ending" not in content:
        raise UserError(f"{file} must have channel_names (or modality), labels and file_ending: add what is missing.")
    return names
