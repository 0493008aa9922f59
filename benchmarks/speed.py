"""Cost of prediction and training on this machine, beside nnU-Net's network and SAM 2's video predictor.

    python benchmarks/speed.py -device cuda                     # all parts, in less than ten minutes
    python benchmarks/speed.py -device cpu                      # about half an hour on two cores
    python benchmarks/speed.py -device cpu --quick --only prediction classes
    python benchmarks/speed.py -device cuda --only loading --dataset 9   # with nnU-Net's folders set
    python benchmarks/speed.py -device cuda --report            # measures nothing: the plots, and Markdown

Contenders take turns in one process, after a warm-up in which operations and encoded slices are counted; weights are
random, which costs the same. A part that is measured again replaces what benchmarks/results/speed_DEVICE.json has of
it. Nothing else should run on the machine; the load average is recorded.
"""

from __future__ import annotations

import argparse
import json
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from speed_parts.classes import measure_classes
from speed_parts.figures import plot_classes, plot_slices
from speed_parts.loading import measure_loading
from speed_parts.markdown import as_markdown
from speed_parts.matrix_rate import measure_matrix_rate
from speed_parts.prediction import measure_prediction
from speed_parts.record import Record, Run
from speed_parts.settings import setting_for
from speed_parts.slices import measure_slices
from speed_parts.timing import Deadline
from speed_parts.training import measure_training

RESULTS = Path(__file__).parent / "results"
IMAGES = Path(__file__).parent.parent / "docs" / "images"
# by importance
PARTS: dict[str, Callable[[Run], Iterator[dict[str, Any]]]] = {
    "matrix_rate": measure_matrix_rate,
    "prediction": measure_prediction,
    "training": measure_training,
    "classes": measure_classes,
    "slices": measure_slices,
    "loading": measure_loading,
}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--quick", action="store_true", help="smaller and fewer, to see that it works")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--dataset", type=int, help="number of a preprocessed dataset, for the part `loading`")
    parser.add_argument("--minutes", type=float, help="begin nothing after that (cuda: 8.5)")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="NAME=JSON", help="other sizes: see speed_parts/settings.py"
    )
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON file")
    parser.add_argument("--images", type=Path, default=IMAGES, help="folder of the plots")
    parser.add_argument("--note", action="append", default=[], help="what a reader must know about this run")
    parser.add_argument("--report", action="store_true", help="only draw and print what was measured before")
    args = parser.parse_args(arguments)
    if args.device == "cuda" and not args.report and not torch.cuda.is_available():
        parser.error("torch finds no GPU: use -device cpu, or --report for what was measured on another machine.")

    torch.manual_seed(0)
    failed: list[str] = []
    record = Record(args.results / f"speed_{args.device}.json")
    if not args.report:
        changes = dict(change.split("=", 1) for change in args.set)
        setting = setting_for(args.device, args.quick).changed(**{k: json.loads(v) for k, v in changes.items()})
        run = Run(setting, torch.device(args.device), dataset=args.dataset)
        run.deadline = Deadline(setting.minutes if args.minutes is None else args.minutes)
        failed = measure_parts(args.only or list(PARTS), run, record, args.note)
    if (slices := record.result("slices")) is not None:
        plot_slices(slices, args.device, args.images / f"speed_slices_{args.device}.png")
    if (classes := record.result("classes")) is not None:
        plot_classes(classes, args.device, args.images / f"speed_classes_{args.device}.png")
    print(as_markdown(record.parts))
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


def measure_parts(names: Sequence[str], run: Run, record: Record, notes: list[str]) -> list[str]:
    """Measure the parts, by importance, until time is up; each result is on disk as soon as it is there.

    Returns:
        the parts that failed.
    """
    failed: list[str] = []
    warnings.filterwarnings("ignore", category=UserWarning)  # the same ones in every round
    for name in (part for part in PARTS if part in names):
        known = record.result("matrix_rate") or {}
        run.rates = {precision: rate["tflop_per_second"] * 1e12 for precision, rate in known.items()}
        if not run.deadline.allows():
            print(f"{name}: no time left", flush=True)
            continue
        print(f"{name} ...", flush=True)
        try:
            for result in PARTS[name](run):
                record.put(name, result, run, notes)
        except Exception:  # the other parts are measured
            traceback.print_exc()
            failed.append(name)
    return failed


if __name__ == "__main__":
    main()
