"""Plant one-line slips in the package, one at a time, and count how many the tests find.

    python -m benchmarks.mutations training              # one room: benchmarks/mutations/training.yaml
    python -m benchmarks.mutations training --only 3 7   # two of its slips

A slip file is a YAML list of mappings with ``file``, ``old`` and ``new`` (``old`` must occur exactly once in the
file) and optionally ``tests`` (default: ``tests/ROOM``). The slip is written into the working tree, the tests run until
the first failure, and the file is put back. A slip counts as found if a test fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
TIMEOUT = 600.0  # seconds per slip; tests that hang have found it


def plant(slip: dict[str, Any], room: str) -> dict[str, Any]:
    """Plant one slip, run its tests and restore the file.

    Raises:
        SystemExit: ``old`` does not occur exactly once.
    """
    file = ROOT / slip["file"]
    before = file.read_text(encoding="utf-8")
    if before.count(slip["old"]) != 1:
        sys.exit(f"{slip['file']}: {slip['old']!r} occurs {before.count(slip['old'])} times, expected once.")
    tests = slip.get("tests", [f"tests/{room}"])
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=line", *tests]
    try:
        file.write_text(before.replace(slip["old"], slip["new"]), encoding="utf-8")
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT)
        found = done.returncode != 0
        by = [line.split(" - ")[0] for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    except subprocess.TimeoutExpired:
        found, by = True, ["timeout"]
    finally:
        file.write_text(before, encoding="utf-8")
    return {"file": slip["file"], "old": slip["old"], "new": slip["new"], "found": found, "by": by[:1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", help="name of a file in benchmarks/mutations")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="numbers, from 0; writes no result")
    args = parser.parse_args()
    slips = yaml.safe_load((Path(__file__).parent / "mutations" / f"{args.room}.yaml").read_text(encoding="utf-8"))
    chosen = range(len(slips)) if args.only is None else args.only
    rows = []
    for number in chosen:
        row = plant(slips[number], args.room)
        rows.append(row)
        print(
            f"{number:3} {'found' if row['found'] else 'MISSED'} {row['file']}: {row['new']!r} {row['by']}", flush=True
        )
    print(f"{sum(row['found'] for row in rows)} of {len(rows)} found")
    if args.only is None:
        content = (
            json.dumps({"room": args.room, "found": sum(r["found"] for r in rows), "slips": rows}, indent=1) + "\n"
        )
        (RESULTS / f"mutations_{args.room}.json").write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main()
