"""The objects of a page: their numbers, names and colours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from nnunetv2_sam2_3dmed.interactive.prompts import PromptError

# told apart on grey by most colour-blind people: light and dark alternate
COLOURS = ("#38bdf8", "#fbbf24", "#f472b6", "#34d399", "#a78bfa", "#fb7185", "#facc15", "#22d3ee", "#c084fc", "#a3e635")


@dataclass
class PageObject:
    """An object as the page lists it."""

    id: int
    name: str
    colour: str


class PageObjects:
    """The list of a page's objects, which is never empty.

    Args:
        labels: names of the objects by number, where none is added or removed; default: one, to which others are added.
    """

    def __init__(self, labels: Mapping[int, str] | None = None):
        self._listed: dict[int, PageObject] = {}
        self._removed: dict[int, PageObject] = {}
        self._labels = labels
        for number, name in (labels or {1: ""}).items():
            self.listed(number, name)

    def __iter__(self) -> Iterator[PageObject]:
        return iter(sorted(self._listed.values(), key=lambda one: one.id))

    def __contains__(self, number: int) -> bool:
        return number in self._listed

    def add(self, name: str | None = None) -> PageObject:
        """List a new object without prompts; numbers of removed ones are kept, since undo may bring them back.

        Raises:
            PromptError: the objects are the labels of a dataset.
        """
        if self._labels is not None:
            raise PromptError("the objects of a round are the labels of its dataset: choose one of the list.")
        return self.listed(max([*self._listed, *self._removed], default=0) + 1, name)

    def listed(self, number: int, name: str | None = None) -> PageObject:
        """Return the object of a number, which is listed if it was not."""
        new = PageObject(number, name or f"Object {number}", COLOURS[(number - 1) % len(COLOURS)])
        return self._listed.setdefault(number, self._removed.pop(number, new))

    def known(self, number: int) -> PageObject:
        """Return an object of the list.

        Raises:
            PromptError: there is none of that number.
        """
        if number not in self._listed:
            raise PromptError(f"there is no object {number}: choose one from the list, or add one.")
        return self._listed[number]

    def remove(self, number: int) -> None:
        """Take an object off the list; of the last one, a new one takes the place. A label of a dataset stays."""
        if self._labels is not None:
            return
        self._removed[number] = self._listed.pop(number)
        if not self._listed:
            self.add()

    def check_labels(self, numbers: Iterable[object]) -> None:
        """Check that objects from a file can be listed.

        Raises:
            PromptError: one is no label of the dataset.
        """
        labels = self._labels
        strange = [one for one in numbers if labels is not None and isinstance(one, int) and one not in labels]
        if strange:
            raise PromptError(f"object {strange[0]} is no label of the round's dataset: load those of the case.")
