"""Raw nnU-Net datasets that new cases can be added to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import WRITABLE
from nnunetv2_sam2_3dmed.nnunet.dataset_labels import expected_values, foreground_names
from nnunetv2_sam2_3dmed.nnunet.folders import dataset_name, nnunet_folder, read_dataset_json
from nnunetv2_sam2_3dmed.nnunet.sources import sources_of


@dataclass(frozen=True)
class RawDataset:
    """Labels and files of a dataset.

    Attributes:
        name: such as ``Dataset009_Spleen``.
        folder: its folder in nnUNet_raw.
        ending: file ending.
        objects: names of the foreground classes by label.
        labels: all values that a mask may have, including the ignore label.
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
        """Return if there is an image or label of a training case of that name."""
        return self.image(case).exists() or self.label(case).exists()

    def cases(self) -> list[str]:
        """Return all training cases, sorted."""
        end = f"_0000{self.ending}"
        return sorted(file.name.removesuffix(end) for file in (self.folder / "imagesTr").glob(f"[!.]*{end}"))


def open_dataset(name_or_id: str) -> RawDataset:
    """Open the dataset of a name or number.

    Raises:
        UserError: it does not exist, or new cases cannot be added to it: its images are pictures (``nnunet.sources``)
            or have several channels, its labels are regions, its cases are listed in dataset.json, or masks cannot be
            written in its format.
    """
    name = dataset_name(name_or_id)
    folder = nnunet_folder("nnUNet_raw") / name
    file = folder / "dataset.json"
    if not file.is_file():
        raise UserError(f"there is no {file}: set nnUNet_raw to the folder that has the raw images of {name}.")
    content = read_dataset_json(file, "correct it")
    if sources_of(content).pictures:
        raise UserError(
            f"{name} holds videos, or volumes that `sam2_3dmed merge` made pictures of, to which images cannot be "
            "added as they are: annotate into one of the datasets that it was made of."
        )
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
    classes = foreground_names(content)
    if any(len(values) > 1 for values in classes.values()):
        raise UserError(f"{name} has regions, but an object gets one label: make a dataset with labels.")
    ending = content["file_ending"]
    if ending not in WRITABLE:
        raise UserError(f"the files of {name} end in {ending}, but masks are written as {', '.join(WRITABLE)}.")
    objects = {label: class_name for label, class_name in sorted((v[0], k) for k, v in classes.items())}
    return RawDataset(name, folder, ending, objects, frozenset(expected_values(content)))


def _channel_names(file: Path, content: dict[str, Any]) -> dict[str, str]:
    """Return the channel names under nnU-Net's new or old key.

    Raises:
        UserError: there are none.
    """
    names = content.get("channel_names", content.get("modality"))
    if not isinstance(names, dict):
        raise UserError(f"{file} has the channel_names {names!r}, expected names such as {{'0': 'CT'}}: correct it.")
    return names
