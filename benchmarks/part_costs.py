"""Operations of SAM 2's parts for one slice, by trunk and image size, counted on sam2's own modules.

    python benchmarks/part_costs.py

Nothing is computed: the tensors are fake. Writes benchmarks/results/part_costs.json and .md.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import torch
from equal_time import RESULTS
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.network.sam2_modules import STRIDE, build_sam2_base
from nnunetv2_sam2_3dmed.report.operations import KERNELS

TRUNKS = tuple(f"sam2.1_hiera_{size}" for size in ("tiny", "small", "base_plus", "large"))
IMAGE_SIZES = (256, 512, 1024)
MEMORIES = 7  # slices that SAM 2 looks back to, by default
PARTS = {
    "trunk": "trunk and neck",
    "memory_attention": f"memory attention to {MEMORIES} slices",
    "decoder": "mask decoder",
    "memory_encoder": "memory encoder",
}


def count_parts(backbone: str, image_size: int, slices: int = MEMORIES) -> dict[str, int]:
    """Count the operations of each part for one slice and one object; a multiplication and an addition are two.

    Args:
        backbone: of ``TRUNKS``.
        image_size: side of the image in pixels.
        slices: that memory attention looks back to, at the memory and the object pointer of each.
    """
    sam2 = build_sam2_base(backbone, image_size).eval().requires_grad_(False)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        side, width, narrow = image_size // STRIDE, sam2.hidden_dim, sam2.mem_dim
        slice_tokens, pointer_tokens = side**2, slices * (width // narrow)
        features = torch.zeros(1, width, side, side)
        finer = [torch.zeros(1, channels, side * k, side * k) for channels, k in ((width // 8, 4), (width // 4, 2))]
        current = torch.zeros(slice_tokens, 1, width)
        remembered = torch.zeros(slices * slice_tokens + pointer_tokens, 1, narrow)
        mask = torch.zeros(1, 1, image_size, image_size)
        score = torch.zeros(1, 1)
        jobs: dict[str, Callable[[], Any]] = {
            # with the decoder's convolutions of the finer features, which SAM 2 makes once per image
            "trunk": lambda: sam2.forward_image(torch.zeros(1, 3, image_size, image_size)),
            "memory_attention": lambda: sam2.memory_attention(current, remembered, current, remembered, pointer_tokens),
            "decoder": lambda: sam2._forward_sam_heads(features, high_res_features=finer),
            "memory_encoder": lambda: sam2._encode_new_memory([current], [(side, side)], mask, score, False),
        }
        return {part: _count(job) for part, job in jobs.items()}


def _count(job: Callable[[], Any]) -> int:
    with FlopCounterMode(display=False, custom_mapping=KERNELS) as counter:
        job()
    return int(counter.get_total_flops())


def table(counted: dict[str, dict[str, dict[str, int]]]) -> str:
    """GFLOP of each part; what comes after the trunk is the same for all trunks."""
    lines = [f"| GFLOP per slice | {' | '.join(f'{size} px' for size in IMAGE_SIZES)} |", "|---|---|---|---|"]
    for backbone, by_size in counted.items():
        cells = [by_size[str(size)]["trunk"] for size in IMAGE_SIZES]
        lines.append(f"| {PARTS['trunk']}, {backbone} | {' | '.join(map(_giga, cells))} |")
    for part in list(PARTS)[1:]:
        rows = {backbone: [by_size[str(size)][part] for size in IMAGE_SIZES] for backbone, by_size in counted.items()}
        (cells,) = {tuple(row) for row in rows.values()}
        lines.append(f"| {PARTS[part]} | {' | '.join(map(_giga, cells))} |")
    return "\n".join(lines) + "\n"


def _giga(flop: int) -> str:
    return f"{flop / 1e9:.0f}" if flop > 99.5e9 else f"{flop / 1e9:.2g}"


def main() -> None:
    counted = {backbone: {str(size): count_parts(backbone, size) for size in IMAGE_SIZES} for backbone in TRUNKS}
    write_text(RESULTS / "part_costs.json", json.dumps(counted, indent=1) + "\n")
    write_text(RESULTS / "part_costs.md", table(counted))
    print(table(counted))


if __name__ == "__main__":
    main()
