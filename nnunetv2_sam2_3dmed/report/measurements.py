"""Measured seconds and memory per volume, kept in ``cost.json`` so that they are measured once."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.report.methods import Method

FILE = "cost.json"


@dataclass(frozen=True)
class Measurement:
    """What it took to predict one case.

    Attributes:
        case: the case.
        checkpoint: the file that was used.
        modified: when that file was last written, in seconds since 1970: another checkpoint is measured anew.
        seconds: from the image in memory to the segmentation, preprocessing and resampling included.
        peak_bytes: of GPU memory, or of the process's memory on a CPU.
        device: what it ran on.
    """

    case: str
    checkpoint: str
    modified: float
    seconds: float
    peak_bytes: int
    device: str


def stored(folder: Path) -> dict[str, Measurement]:
    """The measurements in ``folder``'s cost.json whose checkpoints are still the same, by method."""
    file = folder / FILE
    if not file.is_file():
        return {}
    try:
        found = {name: Measurement(**values) for name, values in json.loads(file.read_text(encoding="utf-8")).items()}
    except (ValueError, TypeError, AttributeError):  # not ours, or of another version: measured anew
        return {}
    return {name: m for name, m in found.items() if _modified(Path(m.checkpoint)) == m.modified}


def measure_missing(
    methods: Sequence[Method],
    case: str,
    channels: Sequence[Path],
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Measurement]:
    """Measures, one after the other, the methods that have a checkpoint and no measurement of this case yet.

    What was measured on another device is measured anew.

    Args:
        methods: of the report.
        case: to be predicted.
        channels: the files of its image.
        folder: with cost.json, which is written after each measurement.
        say: told what is being done, and what failed.

    Returns:
        All measurements of this case on this device, by method.
    """
    device = _device()
    found = {name: m for name, m in stored(folder).items() if (m.case, m.device) == (case, device)}
    for method in methods:
        checkpoint = method.checkpoint
        if checkpoint is None or method.results_folder is None:
            continue
        if method.name in found and found[method.name].checkpoint == str(checkpoint):
            continue
        say(f"predicting {case} with {method.name} to measure time and memory")
        measured = _measure(method.results_folder, checkpoint, case, channels, say)
        if measured is not None:
            found[method.name] = measured
            _store(folder, found)
    return found


def _device() -> str:
    """What the next measurement runs on, in words."""
    from nnunetv2_sam2_3dmed.report.measure import best_device, device_name  # imports nnU-Net

    return device_name(best_device())


def _measure(
    results_folder: Path, checkpoint: Path, case: str, channels: Sequence[Path], say: Callable[[str], None]
) -> Measurement | None:
    modified = _modified(checkpoint)
    with tempfile.TemporaryDirectory() as scratch:
        to = Path(scratch) / "result.json"
        command = [sys.executable, "-m", "nnunetv2_sam2_3dmed.report.measure", str(results_folder)]
        command += [str(checkpoint), *map(str, channels), "--to", str(to)]
        ended = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
        if ended.returncode or not to.is_file():
            last = (ended.stderr.strip().splitlines() or [f"exit status {ended.returncode}"])[-1]
            say(f"{results_folder.name} could not be measured ({last}).")
            return None
        result = json.loads(to.read_text())
    return Measurement(case, str(checkpoint), modified, result["seconds"], result["peak_bytes"], result["device"])


def _modified(file: Path) -> float:
    return file.stat().st_mtime if file.is_file() else -1.0


def _store(folder: Path, measurements: dict[str, Measurement]) -> None:
    write_text(folder / FILE, json.dumps({name: asdict(m) for name, m in measurements.items()}, indent=2))
