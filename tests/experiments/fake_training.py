"""Plays nnUNetv2_train: four epochs of a fraction of a second, with a checkpoint after each; knows --c and --val.

The environment variable FAKE_TRAINING says what else happens: `fails`, or `hangs` in the second epoch with a worker of
its own; FAKE_HANGS_IN limits the latter to trainers with that ending. Each start and each epoch adds a line to
history.txt in the fold's folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

EPOCHS = 4


def save(path: Path, epoch: int) -> None:
    with zipfile.ZipFile(path.with_suffix(".tmp"), "w") as archive:
        archive.writestr("epoch", str(epoch))
    os.replace(path.with_suffix(".tmp"), path)


def main() -> None:
    number, configuration, fold, *options = sys.argv[1:]
    trainer, plans = options[options.index("-tr") + 1], options[options.index("-p") + 1]
    (dataset,) = {name for name in os.environ["FAKE_DATASETS"].split() if int(name[7:10]) == int(number)}
    folder = Path(os.environ["nnUNet_results"]) / dataset / f"{trainer}__{plans}__{configuration}" / f"fold_{fold}"
    folder.mkdir(parents=True, exist_ok=True)
    behaviour = os.environ.get("FAKE_TRAINING", "")
    hangs = behaviour == "hangs" and trainer.endswith(os.environ.get("FAKE_HANGS_IN", ""))
    with (folder / "history.txt").open("a", buffering=1) as history:
        history.write(f"start {os.getppid()} {os.getpid()} {' '.join(options)}\n")
        if behaviour == "fails":
            raise SystemExit("it fails on purpose")
        if "--val" not in options:
            first = 0
            if "--c" in options:
                with zipfile.ZipFile(folder / "checkpoint_latest.pth") as archive:
                    first = int(archive.read("epoch"))
            for epoch in range(first, EPOCHS):
                history.write(f"epoch {epoch}\n")
                save(folder / "checkpoint_latest.pth", epoch + 1)
                if hangs and epoch == 1 and first == 0:
                    worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
                    history.write(f"worker {worker.pid}\n")
                    time.sleep(60)
                time.sleep(0.05)
            save(folder / "checkpoint_final.pth", EPOCHS)
            (folder / "checkpoint_latest.pth").unlink()
        (folder / "validation").mkdir(exist_ok=True)
        splits = Path(os.environ.get("nnUNet_preprocessed", "missing")) / dataset / "splits_final.json"
        cases = json.loads(splits.read_text())[int(fold)]["val"] if splits.is_file() else []
        summary = {"foreground_mean": {"Dice": 0.5}}
        summary["metric_per_case"] = [{"prediction_file": f"{case}.nii.gz"} for case in cases]
        (folder / "validation" / "summary.json").write_text(json.dumps(summary))


if __name__ == "__main__":
    main()
