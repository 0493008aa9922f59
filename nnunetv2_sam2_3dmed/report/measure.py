"""Seconds and memory of a prediction as ``sam2_3dmed predict`` makes it, kept in ``cost.json``.

    python -m nnunetv2_sam2_3dmed.report.measure RESULTS_FOLDER CHECKPOINT IMAGE... --to RESULT.json

measures one case. Each measurement is a process of its own, since the peak of a process's memory never falls.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any, TypeVar

import torch
from nnunetv2.configuration import default_num_processes
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.images.exact_paths import checked_paths
from nnunetv2_sam2_3dmed.inference.predictor import SAM2_3dMedPredictor
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint
from nnunetv2_sam2_3dmed.processes import peak_bytes
from nnunetv2_sam2_3dmed.report.costs import TILE_STEP, Measurement, build_model
from nnunetv2_sam2_3dmed.report.methods import ReportMethod

FILE = "cost.json"

Predictor = TypeVar("Predictor", bound=nnUNetPredictor)


def predict_once(
    results_folder: Path, checkpoint_file: Path, channels: list[str], device: torch.device
) -> dict[str, Any]:
    """Preprocess, predict and resample one case, on a device that has been warmed up if it is a GPU.

    The time is that of ``sam2_3dmed predict``, which batches windows, on a GPU as many as fit. Batches fill the memory
    of the GPU, so the peak is measured with nnU-Net's own predictor, one window at a time.

    Returns:
        ``seconds`` from the image in memory to the segmentation; ``peak_bytes``: of the GPU's memory that torch held
        with one window at a time, or of the whole process's memory on a CPU; ``device``: in words.
    """
    model = build_model(results_folder)
    checkpoint = load_checkpoint(checkpoint_file)

    def ready(predictor: Predictor) -> Predictor:
        # not initialize_from_trained_model_folder, which would run code from the checkpoint
        predictor.manual_initialization(
            model.network,
            model.plans,
            model.configuration,
            [checkpoint["network_weights"]],
            model.dataset_json,
            model.trainer,
            checkpoint.get("inference_allowed_mirroring_axes"),
        )
        return predictor

    options: dict[str, Any] = {"tile_step_size": TILE_STEP, "device": device, "allow_tqdm": False}
    model.network.load_state_dict(checkpoint["network_weights"])
    reader = model.plans.image_reader_writer_class()
    with checked_paths([Path(channel) for channel in channels], finite=False) as paths:
        image, properties = reader.read_images(paths)
    on_gpu = device.type == "cuda"
    predictor = ready(SAM2_3dMedPredictor(**options))
    needed = 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
        ready(nnUNetPredictor(**options)).predict_single_npy_array(image, properties)
        needed = torch.cuda.max_memory_allocated(device)
        predictor.predict_single_npy_array(image, properties)  # warms up the batches that are timed
        torch.cuda.synchronize(device)
    begun = perf_counter()
    predictor.predict_single_npy_array(image, properties)
    if on_gpu:
        torch.cuda.synchronize(device)
    seconds = perf_counter() - begun
    return {"seconds": seconds, "peak_bytes": needed if on_gpu else peak_bytes(), "device": device_name(device)}


def best_device() -> torch.device:
    """The GPU, where there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name(device: torch.device) -> str:
    """The device in words; of a CPU also the threads, of which nnU-Net's predictor takes no more than its processes."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{min(torch.get_num_threads(), default_num_processes)} CPU threads ({cpu_name()})"


def cpu_name() -> str:
    """The processor's name, where Linux tells it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


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
    methods: Sequence[ReportMethod],
    case: str,
    channels: Sequence[Path],
    folder: Path,
    say: Callable[[str], None],
) -> dict[str, Measurement]:
    """Measure, one after the other, the methods that have a checkpoint and no measurement of this case yet.

    Measurements on another device are repeated.

    Args:
        methods: of the report.
        case: to be predicted.
        channels: the files of its image.
        folder: with cost.json, which is written after each measurement.
        say: called with a sentence on each step and failure.

    Returns:
        All measurements of this case on this device, by method.
    """
    device = device_name(best_device())
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the prediction of one case.")
    parser.add_argument("results_folder", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("channels", nargs="+", help="the image's files, one per channel")
    parser.add_argument("--to", type=Path, required=True, help="JSON file for the result")
    args = parser.parse_args()
    measured = predict_once(args.results_folder, args.checkpoint, args.channels, best_device())
    write_text(args.to, json.dumps(measured))


if __name__ == "__main__":
    main()
