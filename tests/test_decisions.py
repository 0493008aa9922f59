"""Quotations of docs/explanation/decisions.md, word for word in the texts of the papers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "explanation" / "decisions.md"
PAPERS = ROOT.parent / "shared" / "papers"
TEXTS = {
    "SAM2-3dMed": "sam2_3dmed.txt",
    "MedSAM2": "medsam2.txt",
    "Interactive SAM 2": "sam2_interactive_3d.txt",
}
# quoted text in blocks, then (paper, place)
BLOCK = re.compile(r"“(?P<text>.+)” \((?P<paper>[^,()]+), (?P<place>.+)\)$")
ELISION = "” […] “"


class Quotation(NamedTuple):
    """Parts that follow one another in a paper, with something left out between them."""

    parts: list[str]
    paper: str


def quotations() -> list[Quotation]:
    """All blocks of quoted lines."""
    found = []
    for block in re.findall(r"(?:^> .*\n)+", PAGE.read_text(), re.MULTILINE):
        joined = " ".join(line.removeprefix("> ") for line in block.splitlines())
        match = BLOCK.match(joined)
        assert match, f"no quotation with a source: {joined}"
        found.append(Quotation(match["text"].split(ELISION), match["paper"]))
    return found


def normalised(text: str) -> str:
    """Without spaces, line breaks and hyphens, which extraction has lost or added; with one kind of quotes."""
    return re.sub(r"[\s\-\u00ad]", "", text.translate(str.maketrans("‘’“”", "''\"\"")))


def stands_in(quotation: Quotation, text: str) -> bool:
    """Look for all parts of a quotation in their order."""
    place, text = 0, normalised(text)
    for part in quotation.parts:
        place = text.find(normalised(part), place)
        if place < 0:
            return False
        place += len(normalised(part))
    return True


def test_normalisation_forgives_extraction_but_no_word():
    text = "We intro-\nduce a  ‘new’ inter-slice\nmodule. It isfrozen during training."
    assert stands_in(Quotation(["introduce a 'new' interslice module.", "is frozen"], ""), text)
    assert not stands_in(Quotation(["introduce the 'new' inter-slice module"], ""), text)
    assert not stands_in(Quotation(["is frozen", "introduce"], ""), text)


def test_every_quotation_names_a_paper():
    papers = {quotation.paper for quotation in quotations()}
    assert papers == set(TEXTS)


def test_quotations_stand_in_the_papers():
    if not PAPERS.is_dir():
        pytest.skip("the texts of the papers are not here")
    texts = {paper: (PAPERS / name).read_text() for paper, name in TEXTS.items()}
    assert [q for q in quotations() if not stands_in(q, texts[q.paper])] == []
