"""Counts of SAM 2's parts: the result files are the script's, and the docs have their numbers."""

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"


@pytest.fixture
def part_costs(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield import_module("part_costs")
    sys.modules.pop("part_costs", None)


def test_the_result_files_are_what_the_script_counts(part_costs):
    counted = json.loads((RESULTS / "part_costs.json").read_text())
    assert part_costs.count_parts("sam2.1_hiera_tiny", 256) == counted["sam2.1_hiera_tiny"]["256"]
    assert part_costs.table(counted) == (RESULTS / "part_costs.md").read_text()


def test_attention_by_hand(part_costs):
    """One more slice at 256 px: keys and values from 64 channels, scores and weighted sums of 256, in four layers."""
    fewer, more = (part_costs.count_parts("sam2.1_hiera_tiny", 256, slices)["memory_attention"] for slices in (1, 2))
    queries, keys = 16 * 16, 16 * 16 + 4  # with the pointer of the slice
    projections = 2 * keys * 64 * 256 * 2
    attention = 2 * queries * keys * 256 * 2
    assert more - fewer == 4 * (projections + attention)


def test_the_docs_have_these_numbers():
    rows = [
        line.replace("`", "").split("|")[2:-1]
        for line in (ROOT / "docs" / "explanation" / "speed.md").read_text().splitlines()
        if line.startswith(("| trunk and neck, ", "| memory attention to ", "| mask decoder |", "| memory encoder |"))
    ]
    made = [line.split("|")[2:-1] for line in (RESULTS / "part_costs.md").read_text().splitlines()[2:]]
    assert rows == made
