"""The cost of predicting volumes of more and more slices: counted at the full size, measured where that is feasible."""

from __future__ import annotations

from collections.abc import Iterator
from time import perf_counter
from typing import Any

from nnunetv2_sam2_3dmed.report.costs import count_encoded_slices, count_windows
from nnunetv2_sam2_3dmed.report.operations import count_operations
from speed_parts.contenders import CountedWork, contenders_for, precisions
from speed_parts.plans import FULLRES, build_network, make_plans
from speed_parts.record import Run
from speed_parts.settings import Setting
from speed_parts.timing import measure

KINDS = ("ours", "stock_windows", "video_3")
OURS_ALONE = KINDS[:1]  # larger volumes than the full one
REPEATS = 2


def count_slices(setting: Setting, image_size: int) -> list[dict[str, Any]]:
    """Operations and encoded slices by formula, from the operations of one patch, for half-overlapping windows."""
    plans = make_plans(setting, image_size, setting.objects)
    windowed = CountedWork(plans, setting.objects)
    nnunet = count_operations(build_network(plans, FULLRES, setting.objects), (1, 1, *setting.nnunet_patch)).patch
    rows = []
    for slices in setting.slices:
        shape = (slices, image_size, image_size)
        windows = count_windows(shape, windowed.patch)
        rows.append(
            {
                "slices": slices,
                "windows": windows,
                "stock_windows": {
                    "gflop": round(windowed.operations.patch * windows / 1e9, 1),
                    "encoded_slices": windows * setting.patch_slices,
                },
                "cached_windows": {
                    "gflop": round(windowed(shape) / 1e9, 1),
                    "encoded_slices": count_encoded_slices(shape, windowed.patch, ()),
                },
                "nnunet_3d_fullres": {"gflop": round(nnunet * count_windows(shape, setting.nnunet_patch) / 1e9, 1)},
            }
        )
    return rows


def measure_slices(run: Run) -> Iterator[dict[str, Any]]:
    """Counted costs, then seconds and operations of volumes up to the largest that is measured."""
    setting = run.setting
    count_size, size = max(setting.image_sizes), setting.slices_image_size
    result: dict[str, Any] = {
        "counted": {"image_size": count_size, "rows": count_slices(setting, count_size)},
        "measured": {"image_size": size, "by_contender": {}},
    }
    yield result
    by_contender = result["measured"]["by_contender"]
    seconds_per_slice = 0.0
    for slices in (n for n in setting.slices if n <= setting.slices_measured):
        if not run.deadline.allows(seconds_per_slice * slices):
            result["measured"]["stopped"] = f"no time left for {slices} slices"
            yield result
            return
        begun = perf_counter()
        kinds = KINDS if slices <= setting.full_slices else OURS_ALONE
        contenders = contenders_for(setting, size, slices, run.device, kinds)
        # the precision that the network chooses by itself
        precision = precisions(run.device)[-1]
        contenders = [c for c in contenders if c.precision == precision]
        found = measure(contenders, run.device, min(REPEATS, setting.repeats), run.deadline)
        seconds_per_slice = (perf_counter() - begun) / slices
        for name, measured in found.items():
            record = measured.record()
            if record.get("median_seconds"):
                record["seconds_per_slice"] = round(record["median_seconds"] / slices, 5)
            by_contender.setdefault(name, {})[str(slices)] = record
        yield result
