"""Prediction of a volume by all contenders, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any

from speed_parts.contenders import KINDS, contenders_for
from speed_parts.record import Run
from speed_parts.settings import Shape
from speed_parts.timing import Contender, Measured, measure


def measure_prediction(run: Run) -> Iterator[dict[str, Any]]:
    """Measure each contender's costs at each image size, and how many times longer the others take than ours."""
    setting, result = run.setting, {}
    for number, image_size in enumerate(setting.image_sizes):
        if number > 0 and not run.deadline.allows():
            result[str(image_size)] = {"skipped": "no time left"}
            yield result
            continue
        # nnU-Net's patch was planned for the largest slices
        kinds = [kind for kind in KINDS if number == 0 or not kind.startswith("nnunet")]
        contenders = contenders_for(setting, image_size, setting.volume_slices, run.device, kinds)
        measured = measure(contenders, run.device, setting.repeats, run.deadline)
        full = (setting.full_slices, image_size, image_size)
        result[str(image_size)] = {
            "volume": [setting.volume_slices, image_size, image_size],
            "full_volume": list(full),
            "contenders": {c.name: describe(c, measured[c.name], full, run) for c in contenders},
            "ratios": ratios(contenders, measured, full),
        }
        yield result


def shape_of(contender: Contender) -> Shape:
    """Size of the volume that a contender predicts."""
    return tuple(contender.volume.shape[1:])


def growth(contender: Contender, full: Shape) -> float:
    """Work of the full volume as a multiple of the measured one."""
    return contender.work(full) / contender.work(shape_of(contender))


def describe(contender: Contender, measured: Measured, full: Shape, run: Run) -> dict[str, Any]:
    """Measurements, and figures derived from them."""
    shape = shape_of(contender)
    facts = {
        "what": contender.words,
        "precision": contender.precision,
        "predicted": list(shape),
        **measured.record(),
    }
    if measured.failed is not None or not measured.seconds:
        return facts
    seconds = median(measured.seconds)
    rate = measured.flop / seconds
    times = growth(contender, full)
    return {
        **facts,
        "seconds_per_slice": round(seconds * times / full[0], 5),
        "tflop_per_second": round(rate / 1e12, 4),
        "share_of_matrix_rate": run.share_of_rate(rate, contender.precision),
        "full_volume": {
            "seconds": round(seconds * times, 3),
            "gflop": round(measured.flop * times / 1e9, 1),
            "how": "measured"
            if shape == full
            else f"extrapolated from {' x '.join(map(str, shape))}: {times:.3f} times the {contender.unit}",
        },
    }


def ratios(contenders: Sequence[Contender], measured: dict[str, Measured], full: Shape) -> dict[str, Any]:
    """Ratio of each contender's seconds to ours, per round, and the ratio of counted operations.

    Of two contenders that predict different volumes, both are extrapolated to the full one.
    """
    done = [c for c in contenders if measured[c.name].failed is None and measured[c.name].seconds]
    found = {}
    for ours in (c for c in done if c.name.startswith("ours")):
        for other in (c for c in done if not c.name.startswith("ours")):
            if ours.precision == "float32" and other.precision == "bfloat16":
                continue  # the same in bfloat16 is there, and so is bfloat16 on top
            same = shape_of(other) == shape_of(ours)
            times = 1.0 if same else growth(other, full) / growth(ours, full)
            a, b = measured[other.name], measured[ours.name]
            per_round = [times * x / y for x, y in zip(a.seconds, b.seconds)]
            found[f"{other.name} : {ours.name}"] = {
                "seconds": round(median(per_round), 3),
                "per_round": [round(r, 3) for r in per_round],
                "operations": round(times * a.flop / b.flop, 3),
                "how": "measured" if same else "extrapolated to the full volume",
            }
    return found
