"""Plant one-line slips in the package, one at a time, and count how many the tests find.

    python -m benchmarks.mutations training              # one room: benchmarks/mutations/training.yaml
    python -m benchmarks.mutations training --only 3 7   # two of its slips

A slip file is a YAML list of mappings with ``file``, ``old`` and ``new`` (``old`` must occur exactly once in the
file) and optionally ``tests`` (default: ``tests/ROOM``). The slip is written into the working tree, the tests run until
the first failure, and the file is put back. A slip counts as found if a test fails. Each slip is tested in a process
forked from this one, which has imported everything but the package itself, so that a slip takes seconds.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # threads do not survive the fork

import argparse
import json
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results"
LIBRARIES = ("hydra", "nnunetv2.inference.predict_from_raw_data", "nnunetv2.run.run_training", "pandas", "pytest")
LIBRARIES += ("sam2.modeling.sam2_base", "SimpleITK", "skimage.measure", "torch")
TIMEOUT = 400.0  # seconds per slip; tests that hang have found it


def preload() -> None:
    """Import the libraries that take long, and nothing of the package."""
    for name in LIBRARIES:
        import_module(name)
    own = [name for name in sys.modules if name.split(".")[0] == "nnunetv2_sam2_3dmed"]
    if own:
        raise AssertionError(f"slips in {own} would not be seen: they are imported already.")


def run_tests(tests: list[str]) -> tuple[bool, str]:
    """Run tests in a forked process until one fails.

    Args:
        tests: files or node ids, relative to the repository.

    Returns:
        True where a test failed (or hung), and its name.

    Raises:
        SystemExit: there are no such tests, or the process that ran them was killed, such as for want of memory.
    """
    with TemporaryFile() as output:
        child = os.fork()
        if child == 0:
            os.setsid()
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
            import pytest

            status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "--no-header", "--tb=line", *tests])
            sys.stdout.flush()
            os._exit(int(status))
        end = time.monotonic() + TIMEOUT
        while True:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                break
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
                os.waitpid(child, 0)
                return True, "timeout"
            time.sleep(0.05)
        output.seek(0)
        lines = output.read().decode(errors="replace").splitlines()
    code = os.waitstatus_to_exitcode(status)
    if code not in (0, 1, 2):
        sys.exit("\n".join(lines[-20:]))
    failed = [line.split(" - ")[0] for line in lines if line.startswith(("FAILED ", "ERROR "))]
    return code != 0, failed[0] if failed else ""


def plant(slip: dict[str, Any], room: str) -> dict[str, Any]:
    """Plant one slip, run its tests and restore the file.

    Raises:
        SystemExit: ``old`` does not occur exactly once.
    """
    file = ROOT / slip["file"]
    before = file.read_text(encoding="utf-8")
    if before.count(slip["old"]) != 1:
        sys.exit(f"{slip['file']}: {slip['old']!r} occurs {before.count(slip['old'])} times, expected once.")
    try:
        file.write_text(before.replace(slip["old"], slip["new"]), encoding="utf-8")
        found, by = run_tests(slip.get("tests", [f"tests/{room}"]))
    finally:
        file.write_text(before, encoding="utf-8")
    return {"file": slip["file"], "old": slip["old"], "new": slip["new"], "found": found, "by": by}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("room", help="name of a file in benchmarks/mutations")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="numbers, from 0; writes no result")
    args = parser.parse_args()
    os.chdir(ROOT)
    sys.dont_write_bytecode = True
    preload()
    slips = yaml.safe_load((Path(__file__).parent / "mutations" / f"{args.room}.yaml").read_text(encoding="utf-8"))
    chosen = range(len(slips)) if args.only is None else args.only
    for tests in {tuple(slips[number].get("tests", [f"tests/{args.room}"])): None for number in chosen}:
        failed, by = run_tests(list(tests))
        if failed:
            sys.exit(f"{by} fails without any slip: every slip would count as found.")
    rows = []
    for number in chosen:
        row = plant(slips[number], args.room)
        rows.append(row)
        outcome = "found" if row["found"] else "MISSED"
        print(f"{number:3} {outcome} {row['file']}: {row['new']!r} {row['by']}", flush=True)
    found = sum(row["found"] for row in rows)
    print(f"{found} of {len(rows)} found")
    if args.only is None:
        content = {"room": args.room, "found": found, "planted": len(rows), "slips": rows}
        (RESULTS / f"mutations_{args.room}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
