"""Two gloo processes: every trainable parameter takes part in the loss, and both processes stay alike."""

from functools import partial
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.training import losses
from nnunetv2_sam2_3dmed.training.distributed import asked_once, device_of_this_process
from nnunetv2_sam2_3dmed.training.losses import DiceBCELoss, SAM2_3dMedLoss
from nnunetv2_sam2_3dmed.training.targets import TargetMaker
from nnunetv2_sam2_3dmed.training.variants import SAM2_3dMedTrainer_DiceBCE


def two_steps(rank: int, address: str, results) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(rank)  # what is random in a fresh network must become alike
    network = SAM2_3dMed(1, 3, image_size=64, num_slices=3, freeze_trunk=False, precision="float32")
    network = DistributedDataParallel(network)
    network.broadcast_buffers = False  # as the trainer does
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    loss = SAM2_3dMedLoss(TargetMaker([1, 2], None), DiceBCELoss(batch_dice=True, ddp=True))
    losses.LOGITS_AT_ONCE = 1  # classes one after the other: backward gathers their Dice a second time
    torch.manual_seed(rank + 1)  # other data on each process
    for _ in range(2):  # with an unused parameter the second forward pass raises
        optimizer.zero_grad()
        loss.terms(network(torch.randn(1, 1, 3, 16, 16)), torch.randint(0, 3, (1, 1, 3, 16, 16))).total.backward()
        optimizer.step()
    results[rank] = {name: value.double().sum().item() for name, value in network.state_dict().items()}
    dist.destroy_process_group()


def test_the_device_is_the_one_that_the_launcher_set(monkeypatch):
    """On the second of two machines with four GPUs, rank 5 runs on GPU 1."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert device_of_this_process(torch.device("cuda")) == torch.device("cuda", 1)
    assert device_of_this_process(torch.device("cpu")) == torch.device("cpu")


def test_two_processes_train_in_step(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(two_steps, args=(f"file://{tmp_path / 'rendezvous'}", results), nprocs=2)
        assert results[0] == results[1]


def ask(rank: int, address: str, results) -> None:
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    results[rank] = asked_once(lambda: f"read by {rank}", is_ddp=True)

    def refuse(kind: type[Exception]) -> None:
        raise kind(f"refused by {rank}")

    for kind in (UserError, OSError):
        try:
            asked_once(partial(refuse, kind), is_ddp=True)
        except UserError as error:
            results[rank] += f", {str(error).partition(' (not foreseen')[0]}"
    dist.destroy_process_group()


def test_one_process_reads_for_all_and_all_of_them_refuse(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(ask, args=(f"file://{tmp_path / 'rendezvous'}", results), nprocs=2)
        assert dict(results) == dict.fromkeys((0, 1), "read by 0, refused by 0, OSError: refused by 0")
    assert asked_once(lambda: 3, is_ddp=False) == 3


class Sharing(SAM2_3dMedTrainer_DiceBCE):
    """Only what is needed to share a batch out, without nnU-Net's folders."""

    is_ddp = True

    def __init__(self, batch_size: int):
        self.configuration_manager = SimpleNamespace(batch_size=batch_size, batch_dice=True)
        self.plans_manager = SimpleNamespace(dataset_name="Dataset301_Tiny")


@pytest.mark.parametrize("batch_size, wanted", [(2, "--batch-size 3"), (4, "--batch-size 3"), (7, "--batch-size 6")])
def test_a_batch_that_processes_cannot_share_is_refused(batch_size, wanted, monkeypatch):
    """Dice over the whole batch is gathered from all processes, as parts of the same shape."""
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    with pytest.raises(UserError, match=f"sam2_3dmed plan -d Dataset301_Tiny ...` with {wanted}"):
        Sharing(batch_size)._distribute()
