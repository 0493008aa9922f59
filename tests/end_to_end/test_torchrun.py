"""Two machines, played by two launchers on this one: local and global rank differ in the second process."""

import socket
import threading

import torch

from tests.end_to_end.conftest import DATASET, Workplace


def test_two_nodes_train_and_validate_together(planned):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    outputs = {}

    def launch(node: int) -> None:
        # each launcher writes its output into a folder of its own
        root = planned.root / f"node{node}"
        root.mkdir()
        place = Workplace.__new__(Workplace)
        place.root, place.environment = root, planned.environment
        outputs[node] = place.start(
            *("torchrun", "--nnodes", "2", "--node-rank", str(node), "--nproc-per-node", "1"),
            *("--master-addr", "127.0.0.1", "--master-port", str(port), "--no-python"),
            *("sam2_3dmed", "train", "301", "3d", "0", "-tr", "TinyTrainer_tuned", "-device", "cpu"),
            OMP_NUM_THREADS="1",
        )

    threads = [threading.Thread(target=launch, args=(node,)) for node in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # the plan's batch of two stacks is shared out
    assert "worker 0 batch_size 1" in outputs[0] and "worker 1 batch_size 1" in outputs[1]
    fold = planned.results(DATASET, "TinyTrainer_tuned") / "fold_0"
    assert "Mean Validation Dice" in outputs[0] and "Mean Validation Dice" not in outputs[1]
    assert len(list((fold / "validation").glob("*.nii.gz"))) == 2, "each process predicted one of the two cases"
    checkpoint = torch.load(fold / "checkpoint_final.pth", map_location="cpu", weights_only=False)
    assert not any(name.startswith("module.") for name in checkpoint["network_weights"])
    assert all(len(checkpoint["logging"][k]) == 2 for k in ("train_losses", "train_loss_srpp", "mean_fg_dice"))
