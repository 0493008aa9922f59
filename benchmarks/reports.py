"""Result files that several runs of a benchmark add to, in the same or in other places."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

Report = dict[str, Any]  # "settings", and "runs": by the number of a seed or draw, what came out


def begin_report(file: Path, settings: dict[str, Any]) -> Report:
    """Return the report of earlier runs, or an empty one.

    Raises:
        SystemExit: the earlier runs are of other settings, or in an older form.
    """
    if not file.is_file():
        return {"settings": settings, "runs": {}}
    report: Report = json.loads(file.read_text())
    aside = "move it away, or give another --name or --results, whichever of them this script has."
    if "settings" not in report:
        sys.exit(f"{file} is in an older form, without the settings of its runs, so that none can be added: {aside}")
    if report["settings"] != settings:
        sys.exit(f"{file} is of {report['settings']}, not {settings}: {aside}")
    return report


def processor(machine: dict[str, Any]) -> str:
    """Return the name of the GPU that a run was on, or else of the CPU."""
    return machine.get("gpu") or machine.get("cpu", "a CPU of unknown name")


def numbers(report: Report) -> list[str]:
    """Return the numbers of the runs in their order."""
    return sorted(report["runs"], key=int)


def in_order(report: Report) -> list[dict[str, Any]]:
    """Return the runs by their numbers."""
    return [report["runs"][number] for number in numbers(report)]
