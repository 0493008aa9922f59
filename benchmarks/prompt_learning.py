"""Steps until SAM 2's decoder follows boxes from random weights, by the initialisation of its attention.

    python benchmarks/prompt_learning.py            # two minutes on one core

The task: fill the box. Features are random and say nothing; all that there is to learn is where the prompt points.
Writes benchmarks/results/prompt_learning.json: the Dice of the boxes, the mean over 20 steps, every 40 steps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
import torch.nn.functional as F

from nnunetv2_sam2_3dmed.network.fresh_attention import attend_to_places
from nnunetv2_sam2_3dmed.network.sam2_modules import SAM2Base, build_sam2_base

RESULTS = Path(__file__).parent / "results"
SIZE, GRID, BATCH, IMAGES = 96, 6, 16, 64
STEPS, EVERY, MEAN_OF = 160, 40, 20
SEEDS = (0, 1, 2)


def boxes(generator: torch.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Corners (BATCH, 2, 2), x and y in pixels, and their masks at stride 4."""
    middle = torch.arange(SIZE // 4) * 4 + 2
    rows, columns = torch.meshgrid(middle, middle, indexing="ij")
    while True:
        centre = torch.rand(BATCH, 2, generator=generator) * 60 + 18
        half = torch.rand(BATCH, 2, generator=generator) * 18 + 10
        corners = torch.stack([centre - half, centre + half], dim=1).clamp(0, SIZE - 1)
        left, top, right, bottom = corners.flatten(1).T[:, :, None, None]
        inside = (columns >= left) & (columns <= right) & (rows >= top) & (rows <= bottom)
        yield corners, inside.float()


def learn(initialise: Callable[[SAM2Base], None], seed: int) -> dict[int, float]:
    """Dice after so many steps."""
    torch.manual_seed(seed)
    sam2 = build_sam2_base("sam2.1_hiera_tiny", SIZE, with_trunk=False).train()
    initialise(sam2)
    decoder, encoder = sam2.sam_mask_decoder, sam2.sam_prompt_encoder
    levels = [torch.randn(IMAGES, c, GRID * k, GRID * k) / 2 for c, k in ((32, 4), (64, 2), (256, 1))]
    parameters = [*decoder.parameters(), *encoder.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=4e-4)
    generator = torch.Generator().manual_seed(seed)
    scores: list[float] = []
    labels = torch.tensor([[2, 3]], dtype=torch.int).expand(BATCH, 2)
    for _, (corners, truth) in zip(range(STEPS), boxes(generator)):
        chosen = torch.randint(IMAGES, (BATCH,), generator=generator)
        sparse, dense = encoder(points=(corners, labels), boxes=None, masks=None)
        logits, *_ = decoder(
            image_embeddings=levels[2][chosen],
            image_pe=encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            repeat_image=False,
            high_res_features=[levels[0][chosen], levels[1][chosen]],
        )
        logits = logits[:, 0]
        soft = dice(logits.sigmoid(), truth)
        optimizer.zero_grad()
        (F.binary_cross_entropy_with_logits(logits, truth) + 1 - soft.mean()).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        scores.append(float(dice((logits > 0).float(), truth).mean()))
    return {step: round(sum(scores[step - MEAN_OF : step]) / MEAN_OF, 3) for step in range(EVERY, STEPS + 1, EVERY)}


def dice(found: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """Dice of each mask of a batch."""
    return 2 * (found * truth).sum((1, 2)) / (found.sum((1, 2)) + truth.sum((1, 2))).clamp(min=1)


def main() -> None:
    ways = {"as SAM 2's code leaves it": lambda sam2: None, "attend_to_places": attend_to_places}
    result = {name: {seed: learn(way, seed) for seed in SEEDS} for name, way in ways.items()}
    report = {"torch": torch.__version__, "learning_rate": 4e-4, "dice_by_seed_and_step": result}
    (RESULTS / "prompt_learning.json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
