"""Datasets of the rounds, made of one whose labels are all known: experts' cases, images of rounds, and a test."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nnunetv2_sam2_3dmed.files import copy_file, write_text
from nnunetv2_sam2_3dmed.nnunet.folds import PAIRS, group_cases

ENDING = ".nii.gz"
SEED = 0  # of the draw of subjects


@dataclass(frozen=True)
class Shares:
    """Numbers of cases; as subjects are not taken apart, one more is possible.

    Attributes:
        train: for the first training.
        val: for the validation of all trainings.
        each: of each round.
        test: for the test.
        rounds: number of rounds.
    """

    train: int
    val: int
    each: int
    test: int
    rounds: int

    def assign(self, cases: list[str], seed: int = SEED) -> dict[str, list[str]]:
        """Return the cases of ``train``, ``val``, ``round_1``, ..., and ``test``, subjects drawn at random.

        Raises:
            ValueError: there are too few cases.
        """
        wanted = {"train": self.train, "val": self.val}
        wanted |= {f"round_{number}": self.each for number in range(1, self.rounds + 1)} | {"test": self.test}
        subjects = list(group_cases(sorted(cases), PAIRS).values())
        np.random.default_rng(seed).shuffle(subjects)
        given: dict[str, list[str]] = {}
        for name, count in wanted.items():
            given[name] = []
            while len(given[name]) < count:
                if not subjects:
                    raise ValueError(f"{sum(wanted.values())} cases are wanted, but there are {len(cases)}.")
                given[name] += subjects.pop()
            given[name].sort()
        return given


@dataclass(frozen=True)
class Data:
    """The datasets that were made.

    Attributes:
        name: of the dataset that grows.
        work: folder with images and truth of each round.
        cases: cases by part, see :meth:`Shares.assign`.
    """

    name: str
    work: Path
    cases: dict[str, list[str]]

    def images(self, number: int) -> Path:
        """Return the folder with the images of a round."""
        return self.work / f"images_{number}"

    def truth(self, number: int) -> Path:
        """Return the folder with the ground truth of a round."""
        return self.work / f"truth_{number}"

    def write_folds(self, preprocessed: Path) -> None:
        """Write nnU-Net's folds: one for the rounds and one for each control, all of the same cases."""
        fold = {"train": self.cases["train"], "val": self.cases["val"]}
        folds = [fold] * (1 + sum(name.startswith("round_") for name in self.cases))
        write_text(preprocessed / self.name / "splits_final.json", json.dumps(folds, indent=4))


def make_datasets(source: Path, raw: Path, work: Path, numbers: tuple[int, int], shares: Shares) -> Data:
    """Copy the cases to where the rounds need them; what is there already stays.

    Args:
        source: dataset in nnU-Net's raw format.
        raw: folder for the two datasets.
        work: folder for images and ground truth of the rounds.
        numbers: of the dataset that grows, and of the test's.
        shares: numbers of cases.
    """
    content = json.loads((source / "dataset.json").read_text())
    cases = [file.name.removesuffix(ENDING) for file in (source / "labelsTr").glob(f"[!.]*{ENDING}")]
    given = shares.assign(cases)
    data = Data(f"Dataset{numbers[0]:03d}_HippocampusRounds", work, given)
    grows, test = raw / data.name, raw / f"Dataset{numbers[1]:03d}_HippocampusTest"
    places = [(grows / "imagesTr", grows / "labelsTr", [*given["train"], *given["val"]])]
    places.append((test / "imagesTr", test / "labelsTr", given["test"]))
    places += [(data.images(n), data.truth(n), given[f"round_{n}"]) for n in range(1, shares.rounds + 1)]
    for images, labels, own in places:
        for case in own:
            for folder, name in ((images, f"{case}_0000{ENDING}"), (labels, f"{case}{ENDING}")):
                if not (folder / name).is_file():
                    kind = "imagesTr" if folder == images else "labelsTr"
                    copy_file(source / kind / name, folder / name)
    for folder, own in ((grows, [*given["train"], *given["val"]]), (test, given["test"])):
        if not (folder / "dataset.json").is_file():
            write_text(folder / "dataset.json", json.dumps({**content, "numTraining": len(own)}, indent=4))
    return data
