"""Time that the server adds to a session in the same process, waits during a long propagation, and many clients.

    python -m benchmarks.server --output benchmarks/results/server_cpu.json

Weights are random, which changes no time. Clicks are timed in pairs, server and session in turns, so that what else the
machine does touches both.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.software import software_and_machine
from nnunetv2_sam2_3dmed.files import write_text
from nnunetv2_sam2_3dmed.server.settings import Settings
from tests.interactive.reference import build, phantom, random_weights
from tests.server.conftest import begin, connect, running, session_like
from tests.server.many_clients import resident_bytes, run_clients

SPACING = (3.0, 1.0, 1.0)


def clicks(size: int, depth: int, pairs: int) -> dict[str, Any]:
    """Time clicks on encoded slices, with the propagation that follows, through the server and without it.

    Args:
        size: side in pixels, of the slices and of the network's images.
        depth: slices.
        pairs: of clicks.
    """
    model = build(random_weights(), size)
    image = phantom((depth, size, size))
    session = session_like(model)
    session.set_image(image, SPACING)
    session.prepare()
    chance = np.random.default_rng(0)
    clocks = {"passed": time.perf_counter, "processor": time.process_time}
    ratios: dict[str, list[float]] = {name: [] for name in clocks}
    alone: list[float] = []
    with running(Settings(model=model, device="cpu", precision="float32", budget_s=600)) as server:
        with connect(server, read_timeout=600) as client:
            buffer = begin(client, image)
            client.add_point_interaction([depth // 2, size // 2, size // 2], True)
            for pair in range(pairs + 1):
                point = [depth // 2, *(int(k) for k in chance.integers(size // 4, 3 * size // 4, 2))]
                client.reset_interactions()
                session.reset()
                times = [{name: now() for name, now in clocks.items()}]
                session.add_points([point])
                session.predict_slice()
                session.propagate()
                mask = session.mask()
                times.append({name: now() for name, now in clocks.items()})
                client.add_point_interaction(point, True)
                times.append({name: now() for name, now in clocks.items()})
                if not np.array_equal(buffer, mask):
                    raise RuntimeError(f"server and session differ at {point}.")
                if pair:  # the first one warms up
                    alone.append(times[1]["passed"] - times[0]["passed"])
                    for name, found in ratios.items():
                        before, between, after = (time[name] for time in times)
                        found.append((after - between) / (between - before))
    return {
        "pixels": size,
        "slices": depth,
        "pairs": pairs,
        "session_median_ms": round(1000 * statistics.median(alone), 1),
        "server_to_session": {
            name: {
                "median": round(statistics.median(found), 3),
                "quartiles": [round(float(q), 3) for q in np.quantile(found, (0.25, 0.75))],
            }
            for name, found in ratios.items()
        },
    }


def waits(size: int, depth: int, budget_s: float) -> dict[str, Any]:
    """Longest wait of a client during a propagation through slices that are not encoded yet.

    Args:
        size: side in pixels, of the slices and of the network's images.
        depth: slices.
        budget_s: of an answer.
    """
    model = build(random_weights(), size)
    image = phantom((depth, size, size))
    waited: list[float] = []
    with running(Settings(model=model, device="cpu", precision="float32", budget_s=budget_s)) as server:
        with connect(server) as client:
            begin(client, image)
            changed, call = True, partial(client.add_point_interaction, [depth // 2, size // 2, size // 2], True)
            while changed:
                began = time.perf_counter()
                changed = call() is not None
                waited.append(time.perf_counter() - began)
                call = client._predict
    return {
        "pixels": size,
        "slices": depth,
        "budget_s": budget_s,
        "answers": len(waited),
        "longest_s": round(max(waited), 2),
        "all_s": round(sum(waited), 1),
    }


def clients(interactions: int) -> dict[str, Any]:
    """Wrong voxels, slowest heartbeat and growth of memory of three clients at once.

    Args:
        interactions: of all clients together, in ten rounds.
    """
    model = build(random_weights())
    beside = session_like(model)
    each = -(-interactions // 30)
    wrong, done, slowest, used = 0, 0, 0.0, []
    with running(Settings(model=model, device="cpu", precision="float32")) as server:
        for number in range(10):
            images = [phantom((3, 16, 18 + client))[:: (-1) ** number].copy() for client in range(3)]
            for record in run_clients(server, images, each):
                if record.error is not None:
                    raise record.error
                wrong += record.wrong(beside)
                done += len(record.masks)
                slowest = max([slowest, *record.heartbeats])
            gc.collect()
            used.append(resident_bytes())
    return {
        "clients": 3,
        "interactions": done,
        "wrong_voxels": wrong,
        "slowest_heartbeat_s": round(slowest, 3),
        "resident_mib_after_rounds": [round(size / 2**20) for size in used],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=512, help="side of clicked slices (default: %(default)s pixels)")
    parser.add_argument(
        "--long-size",
        type=int,
        default=256,
        help="of small slices and those of the long propagation (default: %(default)s)",
    )
    parser.add_argument("--pairs", type=int, default=30, help="clicks timed on a single slice (default: %(default)s)")
    parser.add_argument("--slices", type=int, default=100, help="of the long propagation (default: %(default)s)")
    parser.add_argument("--budget", type=float, default=5.0, help="of an answer, in seconds (default: %(default)s)")
    parser.add_argument("--interactions", type=int, default=500, help="of three clients (default: %(default)s)")
    parser.add_argument("--output", type=Path)
    args = parser.parse_args()
    parts = {
        "click_on_a_slice": lambda: clicks(args.size, 1, args.pairs),
        "click_on_a_small_slice": lambda: clicks(args.long_size, 1, args.pairs),
        "click_and_propagation": lambda: clicks(args.size, 10, max(1, args.pairs // 4)),
        "long_propagation": lambda: waits(args.long_size, args.slices, args.budget),
        "three_clients": lambda: clients(args.interactions),
    }
    facts: dict[str, Any] = software_and_machine() | {"load_average": os.getloadavg()[0]}
    for name, part in parts.items():
        facts[name] = part()
        print(name, json.dumps(facts[name]), flush=True)
        if args.output is not None:
            write_text(args.output, json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
