"""The rule for first lines of docstrings, ``.ci/docstrings.py``, on examples."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[1] / ".ci" / "docstrings.py"
spec = importlib.util.spec_from_file_location("docstrings", FILE)
docstrings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docstrings)


@pytest.mark.parametrize(
    "line",
    [
        "Return the masks of all slices.",
        "Slices of a volume, in order.",
        "Bootstrap confidence intervals over cases.",
        "Cases that all methods have.",
        "Result types of InteractiveSession.",
        "Howitzer dataset.",
        "Dice loss beside the cross entropy.",
    ],
)
def test_noun_phrases_and_imperatives_pass(line):
    assert docstrings.fault(line) is None


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("What a session tells.", "What"),
        ("Whether the object is there.", "Whether"),
        ("That labels are numbers.", "That"),
        ("How far a mean could be off.", "How"),
        ("Of each mask of a batch.", "Of"),
        ("Why a case failed.", "Why"),
        ("Which slices are seen.", "Which"),
        ("Returns the masks.", "Returns"),
        ("Checks labels before anything runs.", "Checks"),
        ("Scores every case.", "Scores"),
        ("Masks a slice.", "Masks"),
        ("Return the masks", "full stop"),
        ("", "full stop"),
    ],
)
def test_questions_and_third_persons_are_refused(line, said):
    assert said in docstrings.fault(line)


def test_every_kind_of_docstring_is_looked_at(tmp_path, capsys):
    file = tmp_path / "a.py"
    file.write_text(
        '"""What it is."""\n\n\nclass A:\n    """Holds it."""\n\n    async def b(self):\n        """Return it.\n\n'
        '        Returns the thing.\n        """\n\n    def c(self):\n        """No stop"""\n\n\ndef d(): ...\n'
    )
    assert docstrings.main([str(file)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1] for line in lines[:-1]] == ["1", "5", "14"] and lines[-1].startswith("3 docstrings")
    file.write_text('"""A module."""\n')
    assert docstrings.main([str(file)]) == 0
