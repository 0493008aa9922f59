"""Records of each run beside nnU-Net's files: duration, machine, failure, and everything that was printed."""

from __future__ import annotations

import json
import platform
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from nnunetv2_sam2_3dmed.files import write_text

LOG_TAIL_LINES = 15
ATTEMPT = "$ "  # before the command with which an attempt begins, in the log


@dataclass(frozen=True)
class Record:
    """Record of one run.

    Attributes:
        seconds: of all attempts.
        attempts: how often the command was started.
        exit_status: of the last attempt; None if it was stopped.
        failure: why the last attempt failed; empty if it did not.
        machine: of the last attempt.
        device: of the last attempt.
    """

    seconds: float = 0.0
    attempts: int = 0
    exit_status: int | None = None
    failure: str = ""
    machine: str = ""
    device: str = ""

    def after(self, seconds: float, exit_status: int | None, failure: str, device: str) -> Record:
        """Return the record after another attempt."""
        return replace(
            self,
            seconds=round(self.seconds + seconds, 2),
            attempts=self.attempts + 1,
            exit_status=exit_status,
            failure=failure,
            machine=platform.node(),
            device=device,
        )


def record_file(output: Path, run_path: str) -> Path:
    """Return the file of a run's record."""
    return output / "records" / f"{run_path}.json"


def log_file(output: Path, run_path: str) -> Path:
    """Return the file with everything that a run printed."""
    return output / "logs" / f"{run_path}.log"


def read_record(output: Path, run_path: str) -> Record:
    """Return the record, or an empty one if none can be read."""
    try:
        return Record(**json.loads(record_file(output, run_path).read_text()))
    except (OSError, ValueError, TypeError):
        return Record()


def write_record(output: Path, run_path: str, record: Record) -> None:
    """Replace a run's record."""
    write_text(record_file(output, run_path), json.dumps(asdict(record), indent=2) + "\n")


def log_tail(log: Path) -> str:
    """Return the end of the last attempt in ``log``."""
    try:
        text = log.read_text(errors="replace")
    except OSError:
        return ""
    last = re.split(rf"^{re.escape(ATTEMPT)}", text, flags=re.MULTILINE)[-1]
    return "\n".join([line for line in last.splitlines() if line.strip()][-LOG_TAIL_LINES:])
