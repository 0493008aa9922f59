"""Pseudo Dice against minutes, read from nnU-Net's training logs, as JSON; for runs that were stopped as well.

python benchmarks/learning_curves.py NAME=training_log.txt [...] -o benchmarks/results/curves.json
"""

from __future__ import annotations

import argparse
import json
import re
from datetime import datetime
from pathlib import Path

LINE = re.compile(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+): +(Epoch \d+|Pseudo dice \[(.*)\])\s*$")


def read_curve(log: Path) -> list[dict]:
    """One entry per finished epoch: minutes since the first began, and the pseudo Dice of each class."""
    start, curve = None, []
    for line in log.read_text().splitlines():
        match = LINE.match(line)
        if not match:
            continue
        time = datetime.fromisoformat(match[1])
        start = start or time
        if match[3] is not None:
            dice = [float(number) for number in re.findall(r"\d\.\d+|\bnan\b", match[3])]
            curve.append({"minutes": round((time - start).total_seconds() / 60, 2), "pseudo_dice": dice})
    return curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("logs", nargs="+", metavar="NAME=LOG")
    parser.add_argument("-o", "--output", type=Path, required=True)
    args = parser.parse_args()
    named = (entry.split("=", 1) for entry in args.logs)
    curves = {name: read_curve(Path(log)) for name, log in named}
    args.output.write_text(json.dumps(curves, indent=1) + "\n")


if __name__ == "__main__":
    main()
