"""Kill a training at ten random moments and check the files that it leaves.

    eval "$(sam2_3dmed env)"     # with dataset 4 preprocessed and planned, for example --image-size 64 --slices 4
    python benchmarks/kill_and_continue.py -device cpu

After each SIGKILL (of the whole process group) every checkpoint must load and --c must go on from the latest one;
a last --c trains to the end. Writes benchmarks/results/kill_and_continue.json.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from equal_time import DATASET, RESULTS, machine

from nnunetv2_sam2_3dmed.nnunet.folders import nnunet_folder

FOLD = Path(DATASET) / "KilledTrainer__nnUNetPlans__3d" / "fold_0"
EPOCH = re.compile(r"^\S+ \S+ Epoch (\d+)\s*$", re.MULTILINE)


def start(device: str, go_on: bool, log: Path) -> subprocess.Popen:
    command = ["nnUNetv2_train", "4", "3d", "0", "-tr", "KilledTrainer", "-device", device, *(["--c"] if go_on else [])]
    folders = [os.environ["nnUNet_extTrainer"], str(Path(__file__).parent / "trainers")]
    return subprocess.Popen(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        env={**os.environ, "nnUNet_extTrainer": os.pathsep.join(folders)},
        stdout=log.open("w"),
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def epochs_in(log: Path) -> list[int]:
    return [int(number) for number in EPOCH.findall(log.read_text())]


def checkpoints(fold: Path) -> dict[str, int]:
    """The epoch that each checkpoint goes on with; raises where one does not load."""
    return {
        path.name: torch.load(path, map_location="cpu", weights_only=False)["current_epoch"]
        for path in sorted(fold.glob("checkpoint_*.pth"))
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    fold = nnunet_folder("nnUNet_results") / FOLD
    shutil.rmtree(fold, ignore_errors=True)
    kills: list[dict] = []
    left: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "output.txt"
        for _ in range(args.kills):
            process = start(args.device, bool(left), log)
            if (fold / "checkpoint_final.pth").exists():
                raise SystemExit("the training ended before all kills: give KilledTrainer more epochs")
            while not epochs_in(log):  # the clock starts with the first epoch: start-up is not training
                if process.poll() is not None:
                    raise SystemExit(log.read_text())
                time.sleep(0.05)
            wait = chance.uniform(0.0, 20.0)
            time.sleep(wait)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            trained = epochs_in(log)
            # a kill between the last rename and the next epoch's first line leaves the checkpoint one ahead
            expected = left.get("checkpoint_latest.pth", left.get("checkpoint_best.pth", 0))
            if trained[0] != expected:
                raise SystemExit(f"went on with epoch {trained[0]}, but the checkpoint said {expected}")
            torn = [p.name for p in fold.glob("*.partial")]
            left = checkpoints(fold)
            kills.append({"seconds": round(wait, 2), "epochs": trained, "checkpoints": left, "unfinished_files": torn})
            print(kills[-1], flush=True)
        if start(args.device, True, log).wait() != 0:
            raise SystemExit(log.read_text())
        kills.append({"seconds": None, "epochs": epochs_in(log), "checkpoints": checkpoints(fold)})
    report = {"machine": machine(args.device), "seed": args.seed, "kills": kills}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "kill_and_continue.json").write_text(json.dumps(report, indent=1) + "\n")
    print(f"{args.kills} kills, {kills[-1]['checkpoints']}")


if __name__ == "__main__":
    main()
