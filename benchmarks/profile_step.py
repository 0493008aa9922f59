"""Seconds of each part of a training step, forward and backward.

python benchmarks/profile_step.py [--image-size 128] [--patch 12 56 40] [--batch 2] [-device cpu]
"""

from __future__ import annotations

import argparse
import time

import torch

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--patch", type=int, nargs=3, default=(12, 56, 40))
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("-device", default="cpu")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--dropout", type=float, default=0.1)
    parser.add_argument("--trace", action="store_true")
    args = parser.parse_args()
    device = torch.device(args.device)
    network = SAM2_3dMed(
        1,
        3,
        image_size=args.image_size,
        num_slices=args.patch[0],
        freeze_trunk=False,
        precision=args.precision,
        dropout=args.dropout,
    ).to(device)
    x = torch.randn(args.batch, 1, *args.patch, device=device)
    from nnunetv2_sam2_3dmed.network.precision import autocast

    def timed(label, f, n=3):
        f()
        times = []
        for _ in range(n):
            t = time.perf_counter()
            f()
            if device.type == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - t)
        print(f"{label:30s} {sorted(times)[n // 2]:.3f} s", flush=True)

    def encoder():
        with autocast(device, args.precision):
            f = network.encoder(x)
        (f.stride16.float().sum() + f.stride8.float().sum() + f.stride4.float().sum()).backward()

    with autocast(device, args.precision):
        features = network.encoder(x)
    features = type(features)(*(t.detach().requires_grad_(t.dtype.is_floating_point) for t in features))

    def seg():
        with autocast(device, args.precision):
            o = network.segmentation(features)
        o.masks.sum().backward()

    def whole():
        o = network(x)
        (o.masks.sum() + o.boundaries.square().mean() + o.offsets.sum()).backward()

    def no_grad():
        with torch.no_grad():
            network(x)

    timed("encoder fwd+bwd", encoder)
    timed("segmentation fwd+bwd", seg)
    timed("all fwd", no_grad)
    timed("all fwd+bwd", whole)
    if args.trace:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as prof:
            whole()
        print(prof.key_averages().table(sort_by="self_cpu_time_total", row_limit=30, max_name_column_width=50))


if __name__ == "__main__":
    main()
