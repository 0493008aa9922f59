"""Two gloo processes: every trainable parameter takes part in the loss, and both processes stay alike."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker


def two_steps(rank: int, address: str, results) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(0)
    network = SAM2_3dMed(1, 3, image_size=64, num_slices=3, freeze_trunk=False, precision="float32")
    network = DistributedDataParallel(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    loss = SAM2_3dMedLoss(TargetMaker([1, 2], None), DiceBCELoss(batch_dice=True, ddp=True))
    torch.manual_seed(rank + 1)  # other data on each process
    for _ in range(2):  # with an unused parameter the second forward pass raises
        optimizer.zero_grad()
        loss.terms(network(torch.randn(1, 1, 3, 16, 16)), torch.randint(0, 3, (1, 1, 3, 16, 16))).total.backward()
        optimizer.step()
    results[rank] = [p.detach().double().sum().item() for p in network.parameters()]
    dist.destroy_process_group()


def test_two_processes_train_in_step(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(two_steps, args=(f"file://{tmp_path / 'rendezvous'}", results), nprocs=2)
        assert results[0] == results[1]
