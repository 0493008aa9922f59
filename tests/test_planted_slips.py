"""Slips that ``benchmarks/mutations.py`` plants, which must follow the code that they change."""

from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("file", sorted((ROOT / "benchmarks" / "mutations").glob("*.yaml")), ids=lambda file: file.stem)
def test_every_slip_is_of_a_line_that_is_there_once_and_of_tests_that_are(file):
    slips = yaml.safe_load(file.read_text("utf-8"))
    assert slips
    for slip in slips:
        assert (ROOT / slip["file"]).read_text("utf-8").count(slip["old"]) == 1, slip
        for test in slip.get("tests", ()):
            path, *name = test.split("::")
            assert (ROOT / path).exists(), slip
            assert not name or f"def {name[0].split('[')[0]}(" in (ROOT / path).read_text("utf-8"), slip
