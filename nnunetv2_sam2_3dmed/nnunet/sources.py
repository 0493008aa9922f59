"""Videos, and sources with sampling rates, of a dataset's cases: noted in dataset.json, whose other keys nnU-Net skips.

nnU-Net copies dataset.json beside the preprocessed data, and hands it to trainers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from nnunetv2_sam2_3dmed.errors import UserError

KEY = "sam2_3dmed"

# format of pictures, that is of frames and of slices that were made 8 bits
ENDING, READER = ".nii.gz", "SimpleITKIO"
CHANNEL = "rgb_to_0_1"  # the name by which nnU-Net divides by 255 and does nothing else
SPACING = (1.0, 1.0, 1.0)  # alike along all axes, so that nnU-Net resamples nothing and keeps the first axis first


@dataclass(frozen=True)
class Source:
    """A dataset whose cases are a part of a merged one.

    Attributes:
        dataset: its name.
        rate: how many times as often as at rate 1 a case is drawn, from 1.
        videos: the cases are videos.
        cases: identifiers in the merged dataset.
    """

    dataset: str
    rate: int
    videos: bool
    cases: Sequence[str]


@dataclass(frozen=True)
class Sources:
    """Statements of dataset.json on its cases.

    Attributes:
        videos: all cases are videos.
        pictures: cases hold 8 bits as they are shown, not intensities that were measured.
        merged: the datasets of which this one was made; empty if it was not.
    """

    videos: bool = False
    pictures: bool = False
    merged: tuple[Source, ...] = ()

    @cached_property
    def _by_case(self) -> dict[str, Source]:
        return {case: source for source in self.merged for case in source.cases}

    def is_video(self, case: str) -> bool:
        """True if a case is a video; cases that were added later are none in a merged dataset."""
        return self.videos or (case in self._by_case and self._by_case[case].videos)

    def origin(self, dataset: str, case: str) -> tuple[str, str]:
        """Return the dataset that a case comes from, and its identifier there.

        Args:
            dataset: the one with these sources.
            case: identifier in it.
        """
        source = self._by_case.get(case)
        if source is None:
            return dataset, case
        # `sam2_3dmed merge` puts the name in front, and the number too where two names are alike
        for prefix in (f"{source.dataset}_", f"{source.dataset.partition('_')[2]}_"):
            if case.startswith(prefix):
                return source.dataset, case.removeprefix(prefix)
        return source.dataset, case

    def repeated(self, cases: Iterable[str]) -> list[str]:
        """Return each case as many times as its rate says; cases that were added later once."""
        return [case for case in cases for _ in range(self._by_case[case].rate if case in self._by_case else 1)]

    def noted(self) -> dict[str, Any]:
        """Return the content of dataset.json under :data:`KEY`."""
        return {
            "videos": self.videos,
            "pictures": self.pictures,
            "merged": [{**asdict(source), "cases": list(source.cases)} for source in self.merged],
        }


def sources_of(dataset_json: Mapping[str, Any]) -> Sources:
    """Read what :meth:`Sources.noted` wrote; of other datasets, that they hold no videos.

    Raises:
        UserError: it was changed to something else.
    """
    noted = dataset_json.get(KEY, {})
    try:
        merged = tuple(Source(**one) for one in noted.get("merged", ()))
        sound = all(type(source.rate) is int and source.rate >= 1 for source in merged)
    except (AttributeError, TypeError):
        sound = False
    if not sound:
        raise UserError(
            f"dataset.json has {noted!r} under {KEY!r}, which `sam2_3dmed videos` and `sam2_3dmed merge` do not write: "
            "take the file of nnUNet_raw, or make the dataset again."
        )
    return Sources(bool(noted.get("videos", False)), bool(noted.get("pictures", False)), merged)
