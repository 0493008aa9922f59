"""Check the first lines of docstrings: a noun phrase or an imperative that ends with a full stop.

python .ci/docstrings.py [FILE ...]     # default: all Python files of the repository
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
FOLDERS = ("nnunetv2_sam2_3dmed", "plans", "trainers", "benchmarks", "tests", "docs", ".ci")
QUESTION = re.compile(r"(What|Whether|That|How|Of|Why|Which|Who|Whose|There|Over|For|Where|When)\b")
# in the third person whatever follows, since none is the plural of a noun of the field
VERBS = (
    "Adds Allows Applies Asks Asserts Begins Belongs Brings Builds Calls Checks Chooses Closes Collects Compares "
    "Computes Contains Continues Converts Creates Decides Deletes Describes Draws Encodes Ends Evaluates Expects "
    "Explains Fills Finds Fits Follows Gets Gives Goes Has Holds Imports Installs Is Keeps Knows Lets Lists Loads "
    "Looks Makes Merges Needs Opens Parses Picks Predicts Prepares Prints Puts Raises Reads Refuses Remembers "
    "Removes Replaces Resizes Returns Says Segments Selects Sends Serves Sets Sorts Stands Starts Stores Tells "
    "Trains Tries Turns Updates Uses Validates Waits Works Writes"
).split()
# any word in -s before these is a verb: "Masks a slice", "Scores every case"
ARTICLES = "a|an|the|every|each|all|its|it|both|one|them|this|these|whatever"
VERB = re.compile(rf"(?:{'|'.join(VERBS)})\b|(?!Cases)\w{{2,}}[^s\W]s (?:{ARTICLES})\b")


def fault(line: str) -> str | None:
    """Name the fault of a docstring's first line, if it has one."""
    if found := QUESTION.match(line):
        return f"opens with {found[1]!r}"
    if found := VERB.match(line):
        return f"opens with the third person {found[0].split()[0]!r}"
    return None if line.endswith(".") else "does not end with a full stop"


def faults(file: Path) -> Iterator[tuple[int, str, str]]:
    """Line number, first line and fault of each docstring at fault in a file."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        text = ast.get_docstring(node, clean=True)
        if text is not None and (found := fault(text.split("\n", 1)[0].strip())):
            yield node.body[0].lineno, text.split("\n", 1)[0], found


def main(files: list[str]) -> int:
    """Print all faults of ``files`` and return 1 if there are any."""
    paths = [Path(file) for file in files] or [f for folder in FOLDERS for f in sorted((ROOT / folder).rglob("*.py"))]
    count = 0
    for path in paths:
        for line, text, found in sorted(faults(path)):
            print(f"{path.relative_to(ROOT) if path.is_relative_to(ROOT) else path}:{line}: {found}: {text}")
            count += 1
    if count:
        print(
            f"{count} docstrings: open with a noun phrase or an imperative (Return ..., Slices of ...), end with '.'."
        )
    return int(count > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
