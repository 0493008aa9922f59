"""Long videos: peak memory and processor time per frame, beside ``SAM2VideoPredictor``, for two lengths.

    python -m benchmarks.video --output benchmarks/results/video_cpu.json

One object, a box on the middle frame, propagated in both directions; weights are random, which changes neither. Both
read the same folder of JPEG frames (synthetic: a bright disc that moves over noise), and run in a process of their own,
whose highest resident memory is the system's figure (``VmHWM``). Frames of the predictor are converted when it is
given them, which is in its time. Also the largest difference between logits on pydicom's echocardiogram.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from pydicom import examples

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.network.precision import autocast
from nnunetv2_sam2_3dmed.processes import peak_bytes
from nnunetv2_sam2_3dmed.video import VideoSession, open_video
from tests.interactive.reference import Reference, build, random_weights

OURS, PREDICTOR = CONTENDERS = ("this package", "SAM2VideoPredictor")
SIDE = 256  # of the frames, and of SAM 2's images
BOX = (88, 88, 168, 168)
PARTS = 5  # of the propagation, whose times show if a frame's cost grows


def write_frames(folder: Path, count: int) -> None:
    """Write synthetic frames, a disc over noise, as JPEG."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for index in range(count):
        row, column = SIDE / 2 + 30 * np.sin(index / 20), SIDE / 2 + 30 * np.cos(index / 31)
        frame = rng.normal(70, 15, (SIDE, SIDE, 3))
        frame[(rows - row) ** 2 + (columns - column) ** 2 < 35**2] += (90, 60, 40)
        Image.fromarray(frame.clip(0, 255).astype(np.uint8)).save(folder / f"{index:05d}.jpg", quality=90)


def parts_of(stamps: list[float]) -> list[float]:
    """Mean seconds per frame in each of :data:`PARTS` parts of a propagation, from the times after each frame."""
    steps = np.diff(stamps)
    return [round(float(part.mean()), 4) for part in np.array_split(steps, PARTS)]


def run_ours(folder: Path, count: int, precision: str) -> list[float]:
    session = VideoSession(build(random_weights(), SIDE), "cpu", precision)
    stamps = [time.process_time()]
    session.set_video(folder)
    session.add_box((count // 2, *BOX[:2]), (count // 2, *BOX[2:]))
    session.propagate(progress=lambda _: stamps.append(time.process_time()))
    for labels in session.label_frames():
        assert labels.shape == (SIDE, SIDE)
    return stamps


def run_predictor(folder: Path, count: int, precision: str) -> list[float]:
    predictor = Reference(random_weights(), folder, size=SIDE).predictor
    stamps = [time.process_time()]
    with torch.inference_mode(), autocast(torch.device("cpu"), precision):
        state = predictor.init_state(str(folder))
        top, left, bottom, right = BOX
        predictor.add_new_points_or_box(state, count // 2, 1, box=[left, top, right, bottom])
        for reverse in (False, True):
            for _, _, logits in predictor.propagate_in_video(state, reverse=reverse):
                _ = logits > 0  # of one frame at a time: what the caller keeps is not the predictor's memory
                stamps.append(time.process_time())
    return stamps


def measure(who: str, folder: Path, count: int, precision: str) -> dict:
    """Run one contender in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.video", "--run", who, "--folder", str(folder)]
    command += ["--frames", str(count), "--precision", precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def difference_on_echo(folder: Path) -> dict[str, float]:
    """The largest difference to the predictor's logits, forward and reversed, in float32 at 256 pixels."""
    from tests.video.test_parity import BOX as CHAMBER
    from tests.video.test_parity import add_box, start

    weights = random_weights()
    video = open_video(Path(str(examples.get_path("ybr_color"))))
    session = VideoSession(build(weights, SIDE), "cpu", "float32")
    session.set_video(video)
    first = len(video) // 2
    session.add_box((first, *CHAMBER[:2]), (first, *CHAMBER[2:]))
    session.propagate()
    reference = Reference(weights, folder, size=SIDE)
    worst, largest = {}, 0.0
    for reverse in (False, True):
        state = start(reference, video, reverse, SIDE)
        add_box(reference, state, len(video) - 1 - first if reverse else first)
        worst[reverse] = 0.0
        for frame, logits in reference.propagate(state).items():
            index = len(video) - 1 - frame if reverse else frame
            ours = session.predict_slice(1, 0, index).logits
            worst[reverse] = max(worst[reverse], float(np.abs(ours - logits[0]).max()))
            largest = max(largest, float(np.abs(ours).max()))
    return {"forward": worst[False], "reversed": worst[True], "largest logit": largest, "frames": len(video)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--frames", type=int, nargs="+", default=[300, 3000])
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--only", choices=CONTENDERS, help="measure one, and keep the other's figures in the output")
    parser.add_argument("--run", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    if args.run is not None:
        run = run_ours if args.run == OURS else run_predictor
        stamps = run(args.folder, args.frames[0], args.precision)
        seconds = parts_of(stamps)
        print(
            json.dumps(
                {
                    "peak MiB": round(peak_bytes() / 2**20),
                    "seconds per frame, in parts": seconds,
                    "seconds per frame": round((stamps[-1] - stamps[0]) / args.frames[0], 4),
                }
            )
        )
        return
    results: dict = {
        "frames of": [SIDE, SIDE],
        "image size": SIDE,
        "precision": args.precision,
        "machine": f"{platform.machine()}, one thread",
        "torch": torch.__version__,
    }
    if args.only is not None and args.output.is_file():
        results = json.loads(args.output.read_text())
    with tempfile.TemporaryDirectory() as name:
        results["difference of logits on the echocardiogram"] = difference_on_echo(Path(name))
    for count in args.frames:
        with tempfile.TemporaryDirectory() as name:
            write_frames(Path(name), count)
            measured = results.setdefault(f"{count} frames", {})
            for who in CONTENDERS if args.only is None else (args.only,):
                measured[who] = measure(who, Path(name), count, args.precision)
        if args.output is not None:
            write_text(args.output, json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
