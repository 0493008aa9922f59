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
        SystemExit: the earlier runs are of other settings.
    """
    if not file.is_file():
        return {"settings": settings, "runs": {}}
    report: Report = json.loads(file.read_text())
    if report.get("settings") != settings:
        sys.exit(f"{file} is of {report.get('settings')}, not {settings}: give another name with --name.")
    return report


def in_order(report: Report) -> list[dict[str, Any]]:
    """Return the runs by their numbers."""
    return [report["runs"][number] for number in sorted(report["runs"], key=int)]
