"""Prompted segmentation beside SAM 2's own predictors: the same logits, and how much sooner.

    python -m benchmarks.interactive IMAGE --output benchmarks/results/interactive_cpu.json

Weights are random, which changes no time; IMAGE is a volume of which the middle slices are taken. Run it where nothing
else runs.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.images.volumes import read_volume, volume_from_array
from nnunetv2_sam2_3dmed.interactive import InteractiveSession
from nnunetv2_sam2_3dmed.network.precision import autocast
from tests.interactive.reference import Reference, build, image_predictor, random_weights


class Clock:
    """Measures calls.

    Args:
        processor: counts the processor time of this process, which other processes hardly change, instead of the time
            that passes.
    """

    def __init__(self, processor: bool):
        self.now = time.process_time if processor else time.perf_counter

    def seconds(self, call: Callable[[], object], repetitions: int = 1) -> float:
        """The median time of ``call``."""
        times = []
        for _ in range(repetitions):
            start = self.now()
            call()
            times.append(self.now() - start)
        return round(statistics.median(times), 4)


class Comparison:
    """A session and SAM 2's predictors, on the same slices with the same weights.

    Args:
        image: a volume.
        depth: how many of its middle slices to take.
        size: side of SAM 2's images.
        folder: for what the predictor reads.
    """

    def __init__(self, image: Path, depth: int, size: int, folder: Path):
        whole = read_volume(image)
        first = max(0, (whole.shape[0] - depth) // 2)
        self.volume = volume_from_array(
            whole.array[first : first + depth], whole.spacing, whole.origin, whole.direction, whole.modality, whole.name
        )
        self.weights = random_weights()
        self.size = size
        self.reference = Reference(self.weights, folder, size=size)
        self.depth, rows, columns = self.volume.shape
        self.middle = self.depth // 2
        # overlapping boxes of several objects, row and column of two corners
        self.boxes = [
            tuple(int(part * length) for part, length in zip(parts, (rows, columns, rows, columns)))
            for parts in ((0.3, 0.25, 0.7, 0.6), (0.4, 0.5, 0.6, 0.8), (0.2, 0.2, 0.5, 0.5))
        ]

    def session(self, precision: str) -> InteractiveSession:
        session = InteractiveSession(build(self.weights, self.size), precision=precision)
        session.set_image(self.volume)
        return session

    def seen(self, session: InteractiveSession, box: tuple[int, ...]) -> list[float]:
        """A box as the network sees it: x, y of two corners."""
        corners = [(self.middle, box[0], box[1]), (self.middle, box[2], box[3])]
        points = self.volume.view(0).points(np.array(corners), self.volume.shape)[:, 1:]
        (top, left), (bottom, right) = points.min(axis=0), points.max(axis=0)
        return [left, top, right, bottom]

    def add_boxes(self, session: InteractiveSession, objects: int) -> None:
        for number, box in enumerate(self.boxes[:objects], start=1):
            session.add_box((self.middle, *box[:2]), (self.middle, *box[2:]), number)

    def reference_way(
        self, session: InteractiveSession, state: dict, objects: int, reverse: bool
    ) -> dict[int, np.ndarray]:
        """From a fresh state, as MedSAM2 does each direction; in the reversed video for the way back."""
        index = self.depth - 1 - self.middle if reverse else self.middle
        for number, box in enumerate(self.boxes[:objects], start=1):
            self.reference.predictor.add_new_points_or_box(state, index, number, box=self.seen(session, box))
        found = self.reference.propagate(state)
        return {self.depth - 1 - frame if reverse else frame: logits for frame, logits in found.items()}

    def differences(self) -> dict[str, float]:
        """The largest differences between logits, in float32."""
        session = self.session("float32")
        self.add_boxes(session, 2)
        view = self.volume.view(0)
        predictor = image_predictor(self.weights, session.slice_as_seen(0, self.middle), self.size)
        box = np.array(self.seen(session, self.boxes[0]))
        single, _, _ = predictor.predict(box=box, multimask_output=False, return_logits=True)
        first = np.abs(view.plane_back(single[0]) - session.predict_slice(1, 0, self.middle).logits).max()
        session.propagate()
        worst = {}
        for reverse in (False, True):
            state = self.reference.start(session, reverse=reverse)
            expected = self.reference_way(session, state, 2, reverse)
            worst[reverse] = max(
                np.abs(view.plane_back(logits[k]) - session.predict_slice(k + 1, 0, frame).logits).max()
                for frame, logits in expected.items()
                for k in range(2)
            )
        logits = np.stack([session.predict_slice(1, 0, i).logits for i in range(self.depth)])
        return {
            "first slice, SAM2ImagePredictor": float(first),
            "forward, SAM2VideoPredictor": float(worst[False]),
            "backward, SAM2VideoPredictor on the reversed video": float(worst[True]),
            "largest logit": float(np.abs(logits).max()),
            "foreground": float((logits > 0).mean()),
        }

    def times(self, precision: str, objects: int, clock: Clock) -> dict[str, dict[str, float]]:
        """Seconds of ours and of SAM2VideoPredictor, under the same precision."""
        session = self.session(precision)
        ours: dict[str, float] = {}
        device = session._network.device
        self.add_boxes(session, objects)
        ours["first box on a new slice"] = clock.seconds(lambda: session.predict_slice(1))
        rows = iter(range(5, 100))

        def click() -> None:
            session.add_points([(self.middle, next(rows), 20)], 0)
            session.predict_slice()

        ours["click on a known slice"] = clock.seconds(click, 9)
        session = self.session(precision)
        self.add_boxes(session, objects)
        ours["volume, both ways"] = clock.seconds(session.propagate)
        session.add_points([(self.middle + 1, 20, 20)], 0)
        ours["correction on another slice"] = clock.seconds(session.predict_slice)
        ours["volume again"] = clock.seconds(session.propagate)

        theirs: dict[str, float] = {}
        predictor = self.reference.predictor
        with autocast(device, precision):
            state = self.reference.start(session)
            box = self.seen(session, self.boxes[0])
            theirs["first box on a new slice"] = clock.seconds(
                lambda: predictor.add_new_points_or_box(state, self.middle, 1, box=box)
            )
            theirs["click on a known slice"] = clock.seconds(
                lambda: predictor.add_new_points_or_box(
                    state, self.middle, 1, points=[(20, next(rows))], labels=[0], clear_old_points=False
                ),
                9,
            )

            fresh = {reverse: self.reference.start(session, reverse=reverse) for reverse in (False, True)}

            def whole() -> None:
                for reverse, beginning in fresh.items():
                    self.reference_way(session, beginning, objects, reverse)

            theirs["volume, both ways"] = clock.seconds(whole)
            state = self.reference.start(session)
            for number, one in enumerate(self.boxes[:objects], start=1):
                predictor.add_new_points_or_box(state, self.middle, number, box=self.seen(session, one))
            self.reference.propagate(state)
            theirs["correction on another slice"] = clock.seconds(
                lambda: predictor.add_new_points_or_box(state, self.middle + 1, 1, points=[(20, 20)], labels=[0])
            )

            def again() -> None:
                self.reference.propagate(state)
                self.reference.propagate(state, reverse=True)

            theirs["volume again"] = clock.seconds(again)
        return {
            step: {"ours": ours[step], "theirs": theirs[step], "ratio": round(theirs[step] / ours[step], 2)}
            for step in ours
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("image", type=Path)
    parser.add_argument("--depth", type=int, default=12, help="slices (default: %(default)s)")
    parser.add_argument("--image-size", type=int, default=512)
    parser.add_argument("--objects", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--precisions", nargs="*", default=["float32", "bfloat16"], help="to be timed; none: no times")
    parser.add_argument("--processor-time", action="store_true", help="where other things run: with OMP_NUM_THREADS=1")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    clock = Clock(args.processor_time)
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        comparison = Comparison(args.image, args.depth, args.image_size, Path(folder))
        where = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{torch.get_num_threads()} CPU threads"
        result: dict = {
            "machine": f"{platform.machine()}, {where}",
            "torch": torch.__version__,
            "image": f"{args.image.name}, {' x '.join(map(str, comparison.volume.shape))}",
            "image_size": args.image_size,
            "clock": "processor time" if args.processor_time else "wall-clock time",
            "differences": comparison.differences(),
            "seconds": {},
        }
        print(json.dumps(result, indent=2), flush=True)
        if args.output is not None:
            write_text(args.output, json.dumps(result, indent=2) + "\n")
        for precision in args.precisions:
            for objects in args.objects:
                name = f"{precision}, {objects} object{'s' if objects > 1 else ''}"
                result["seconds"][name] = comparison.times(precision, objects, clock)
                print(name, json.dumps(result["seconds"][name], indent=2), flush=True)
                if args.output is not None:
                    write_text(args.output, json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
