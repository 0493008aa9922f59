"""Rounds: a model's masks of unlabelled cases, its disagreement about each, and its settings."""

from __future__ import annotations

import csv
import io
import json
import math
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.annotation.record import is_case_name
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.files import read_json, write_text
from nnunetv2_sam2_3dmed.images.volumes import WRITABLE
from nnunetv2_sam2_3dmed.locks import held
from nnunetv2_sam2_3dmed.nnunet.folds import group_cases

FILE = "round.json"
LOCK = ".round.lock"
RANKING = "ranking.csv"
COLUMNS = (
    "case",
    "case_disagreement",
    "object",
    "name",
    "disagreement",
    "between_prompts",
    "between_directions",
    "voxels",
    "outline_dice",
    "second_prompt",
    "patient",
    "chosen",
)
# settings of a round, as a user knows them
_SETTINGS = {
    "dataset": "dataset",
    "file_ending": "file format",
    "model_sha256": "model (SHA-256)",
    "image_size": "--image-size",
    "window": "--window",
}


@dataclass(frozen=True)
class ObjectScore:
    """Disagreement of a model with itself about an object; each value is 1 - Dice, from 0 to 1.

    Attributes:
        label: label value.
        name: name of the label.
        between_prompts: disagreement between the given and another kind of prompt; of an object with prompts on every
            slice, between these and the propagation from its median slice.
        between_directions: disagreement between the propagations outwards and back; None for objects on one slice.
        voxels: size of the mask; 0 if the model saw nothing at the prompt.
        outline_dice: Dice of the model's 2D mask and the revised one that was propagated; None without a first stage.
        on_every_slice: the object had prompts on every slice.
        axis: along which ``first`` and ``last`` lie; None where they were not named.
        first: slice at which the object begins, as named with its prompts.
        last: slice at which it ends.
    """

    label: int
    name: str
    between_prompts: float
    between_directions: float | None
    voxels: int
    outline_dice: float | None = None
    on_every_slice: bool = False
    axis: int | None = None
    first: int | None = None
    last: int | None = None

    @property
    def disagreement(self) -> float:
        """The larger one of both disagreements."""
        return max(self.between_prompts, self.between_directions or 0.0)


@dataclass(frozen=True)
class RankedCase:
    """A case of a round.

    Attributes:
        image: file of the image.
        image_sha256: checksum of that file.
        source: origin of the prompts, see ``Unlabelled.source``.
        prompts: the prompts, in words.
        mask_sha256: checksum of the file with the model's mask.
        date: date of the mask, ISO 8601.
        objects: the prompted objects.
        patient: patient of the image; empty if cases are not grouped.
    """

    image: str
    image_sha256: str
    source: list[str]
    prompts: list[str]
    mask_sha256: str
    date: str
    objects: list[ObjectScore]
    patient: str = ""

    @property
    def disagreement(self) -> float:
        """The largest disagreement of its objects: a case is as hard as its hardest object."""
        return max(scored.disagreement for scored in self.objects)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> RankedCase:
        """Make a case from its entry in ``round.json``.

        Raises:
            KeyError, TypeError, ValueError: the entry is damaged.
        """
        case = cls(**{**content, "objects": [ObjectScore(**scored) for scored in content["objects"]]})
        if not math.isfinite(case.disagreement):
            raise ValueError(f"disagreement {case.disagreement}")
        for file in (case.image, case.image_sha256, case.mask_sha256):
            if not isinstance(file, str):
                raise TypeError(f"{file!r} is no text")
        return case


@dataclass(frozen=True)
class OutlinedObject:
    """A 2D mask of the first stage.

    Attributes:
        label: label value.
        index: slice along the case's axis.
        voxels: size of the mask; 0 if the model saw nothing at the prompt.
    """

    label: int
    index: int
    voxels: int


@dataclass(frozen=True)
class OutlinedCase:
    """A case of the first stage of a round.

    Attributes:
        image: file of the image.
        image_sha256: checksum of that file.
        source: origin of the prompts, see ``Unlabelled.source``.
        mask_sha256: checksum of the file with the model's 2D masks.
        date: date of the masks, ISO 8601.
        axis: axis along which the slices lie.
        objects: the masks.
    """

    image: str
    image_sha256: str
    source: list[str]
    mask_sha256: str
    date: str
    axis: int
    objects: list[OutlinedObject]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> OutlinedCase:
        """Make a case from its entry in ``round.json``.

        Raises:
            KeyError, TypeError, ValueError: the entry is damaged.
        """
        return cls(**{**content, "objects": [OutlinedObject(**outlined) for outlined in content["objects"]]})


@dataclass
class Round:
    """A folder with its ``round.json``.

    Attributes:
        folder: folder of the round.
        made_by: dataset, model, its checksum, and settings of all masks.
        cases: ranked cases by name.
        id: unique identifier, since folders can have the same name.
        outlines: cases of the first stage by name; empty if there was none.
        group_by: rule for the patient of a case, see ``folds.group_cases``; empty if cases are not grouped.
        per_patient: number of cases that are chosen of each patient.
    """

    folder: Path
    made_by: dict[str, Any]
    cases: dict[str, RankedCase] = field(default_factory=dict)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    outlines: dict[str, OutlinedCase] = field(default_factory=dict)
    group_by: str = ""
    per_patient: int = 1

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    def mask(self, case: str) -> Path:
        """Return the file of the model's mask."""
        return self.folder / "masks" / f"{case}{self.made_by['file_ending']}"

    def preview(self, case: str) -> Path:
        return self.folder / "previews" / f"{case}.png"

    def outline(self, case: str) -> Path:
        """Return the file of the model's 2D masks."""
        return self.folder / "outlines" / f"{case}{self.made_by['file_ending']}"

    def outline_preview(self, case: str) -> Path:
        return self.folder / "outline_previews" / f"{case}.png"

    def group(self, group_by: str, per_patient: int = 1) -> None:
        """Set the patient of each ranked case, and save.

        Args:
            group_by: see ``folds.group_cases``.
            per_patient: number of cases that are chosen of each patient.

        Raises:
            UserError: see ``folds.group_cases``.
        """
        groups = group_cases(list(self.cases), group_by).items()
        self.group_by, self.per_patient = group_by, per_patient
        self.add({name: replace(self.cases[name], patient=patient) for patient, names in groups for name in names})

    def add(
        self, cases: Mapping[str, RankedCase] | None = None, outlines: Mapping[str, OutlinedCase] | None = None
    ) -> None:
        """Add to what ``round.json`` has by now, since another command may have added cases meanwhile, and save.

        Args:
            cases: ranked cases by name.
            outlines: cases of the first stage by name.

        Raises:
            UserError: another command does not let go of the file, or has begun a round with other settings here.
        """
        with held(self.folder / LOCK) as lock:
            if lock is None:
                raise UserError(f"another command is writing {self.folder / FILE}: repeat this one once it has ended.")
            if (self.folder / FILE).is_file():
                known = Round.begin(self.folder, self.made_by)
                self.id, self.cases, self.outlines = known.id, known.cases, known.outlines
                if not self.group_by:
                    self.group_by, self.per_patient = known.group_by, known.per_patient
            self.cases.update(cases or {})
            self.outlines.update(outlines or {})
            self.save()

    def save(self) -> None:
        """Write ``round.json``, and ``ranking.csv`` once there are ranked cases."""
        content = {
            "id": self.id,
            **self.made_by,
            **({"group_by": self.group_by, "per_patient": self.per_patient} if self.group_by else {}),
            "outlines": {name: asdict(case) for name, case in self.outlines.items()},
            "cases": {name: asdict(case) for name, case in self.cases.items()},
        }
        write_text(self.folder / FILE, json.dumps(content, indent=2) + "\n")
        if self.cases:
            write_text(self.folder / RANKING, as_csv(self.cases, self.per_patient))

    @classmethod
    def begin(cls, folder: Path, made_by: Mapping[str, Any]) -> Round:
        """Return a new round, or the one in ``folder`` to continue; the path of its model may have changed.

        Raises:
            UserError: the round in ``folder`` has another dataset, model or settings.
        """
        if not (folder / FILE).is_file():
            return cls(folder, dict(made_by))
        known = cls.read(folder)
        different = [key for key, value in made_by.items() if key != "model" and known.made_by.get(key) != value]
        if different:
            key = different[0]
            before, now = (
                " ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
                for value in (known.made_by.get(key), made_by[key])
            )
            raise UserError(
                f"{folder} holds a round with {_SETTINGS.get(key, key)} {before}, but now it is {now}: repeat the "
                "command with the settings of that round, or give another folder."
            )
        return known

    @classmethod
    def read(cls, folder: Path) -> Round:
        """Read the round in a folder.

        Raises:
            UserError: there is none, or its ``round.json`` is damaged.
        """
        file = folder / FILE
        if not file.is_file():
            raise UserError(
                f"there is no {file}: give the folder of a round made by `sam2_3dmed annotate outline` or `rank`."
            )
        content = read_json(file, "make the round again in another folder")
        try:
            cases = {name: RankedCase.from_json(case) for name, case in content.pop("cases").items()}
            outlines = {name: OutlinedCase.from_json(case) for name, case in content.pop("outlines", {}).items()}
            own, group_by = content.pop("id"), str(content.pop("group_by", ""))
            per_patient = int(content.pop("per_patient", 1))
            if per_patient < 1:
                raise ValueError(f"per_patient {per_patient}")
            missing = [key for key in ("dataset", "file_ending", "model", "model_sha256") if key not in content]
            strange = [name for name in (*cases, *outlines) if not is_case_name(name)]
            if missing or strange or content["file_ending"] not in WRITABLE:
                raise ValueError(f"{[*missing, *strange] or content['file_ending']}")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{file} is not what `sam2_3dmed annotate outline` or `rank` writes ({error!r}): make the round again "
                "in another folder."
            ) from error
        return cls(folder, content, cases, own, outlines, group_by, per_patient)


def chosen_cases(cases: Mapping[str, RankedCase], per_patient: int = 1) -> set[str]:
    """Return of each patient the cases with the largest disagreement; none without patients.

    As MedSAM2's authors chose among the eight MRI scans of a patient (MedSAM2, Methods).

    Args:
        cases: ranked cases by name.
        per_patient: number of cases of each patient.
    """
    hardest: dict[str, list[str]] = {}
    for name, case in sorted(cases.items(), key=lambda item: (-item[1].disagreement, item[0])):
        if case.patient:
            hardest.setdefault(case.patient, []).append(name)
    return {name for names in hardest.values() for name in names[:per_patient]}


def as_csv(cases: Mapping[str, RankedCase], per_patient: int = 1) -> str:
    """Table with a row per object, those of the hardest case first; before all others those chosen of each patient."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(COLUMNS)
    chosen = chosen_cases(cases, per_patient)
    for name, case in sorted(cases.items(), key=lambda item: (item[0] not in chosen, -item[1].disagreement, item[0])):
        for scored in case.objects:
            directions, outline = (
                "" if value is None else f"{value:.4f}" for value in (scored.between_directions, scored.outline_dice)
            )
            writer.writerow(
                [
                    name,
                    f"{case.disagreement:.4f}",
                    scored.label,
                    scored.name,
                    f"{scored.disagreement:.4f}",
                    f"{scored.between_prompts:.4f}",
                    directions,
                    scored.voxels,
                    outline,
                    "every slice" if scored.on_every_slice else "derived",
                    case.patient,
                    "yes" if name in chosen else "no" if case.patient else "",
                ]
            )
    return stream.getvalue()
