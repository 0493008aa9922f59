"""What docs/decisions.md quotes can be found word for word in the texts of the papers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import pytest
from nnunetv2_sam2_3dmed.trainers import sam2_3dmed_trainers

ROOT = Path(__file__).parents[1]
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
    for block in re.findall(r"(?:^> .*\n)+", (ROOT / "docs" / "decisions.md").read_text(), re.MULTILINE):
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


@pytest.mark.parametrize("page", ["README.md", "docs/decisions.md", "docs/memory.md", "docs/gradient_reach.md"])
def test_trainers_that_a_page_names_are_there(page):
    text = (ROOT / page).read_text()
    # what result files were made with, and is gone
    former = {"SAM2_3dMedTrainer_fromScratch", "SAM2_PromptTrainer_noPretrain"}
    former.add("SAM2_3dMedTrainer_noPretrain_45minutes")
    named = set(re.findall(r"`(SAM2_\w+Trainer\w*)`", text))
    assert named and {name for name in named if not hasattr(sam2_3dmed_trainers, name)} <= (
        former if page == "README.md" else set()
    )
