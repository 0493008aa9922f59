"""Two gloo processes with different kinds of prompts, each of which leaves other parameters unused."""

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

from nnunetv2_sam2_3dmed.network.promptable_sam2 import build_promptable_sam2
from nnunetv2_sam2_3dmed.prompt_training.losses import PromptLoss
from nnunetv2_sam2_3dmed.prompt_training.stacks import PromptMix, Stacks, objects_to_train
from nnunetv2_sam2_3dmed.prompt_training.trainer import SAM2_PromptTrainer


def two_steps(rank: int, address: str, results) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    torch.manual_seed(rank)
    network = DistributedDataParallel(
        build_promptable_sam2("sam2.1_hiera_tiny", 64, dropout=0.0, precision="float32"),
        find_unused_parameters=SAM2_PromptTrainer.find_unused_parameters,
    )
    network.broadcast_buffers = False  # as the trainer does
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=1e-4)
    rng = np.random.default_rng(rank)
    masks = torch.zeros(1, 1, 3, 16, 16, dtype=torch.bool)
    masks[..., 4:12, 4:12] = True
    for mix in (PromptMix(1.0 - rank, 0.0), PromptMix(0.0, 1.0, corrected=float(rank))):
        every = torch.ones(1, 3, 16, 16, dtype=torch.bool)
        stacks = Stacks(torch.rand(1, 3, 16, 16), masks, every, torch.ones(1, 3, dtype=torch.bool))
        objects = objects_to_train(stacks, 64, mix, rng)
        optimizer.zero_grad()
        PromptLoss()(network(objects.prompts), objects).total.backward()
        optimizer.step()
    results[rank] = {name: value.double().sum().item() for name, value in network.state_dict().items()}
    dist.destroy_process_group()


def test_two_processes_train_in_step(tmp_path):
    with mp.Manager() as manager:
        results = manager.dict()
        mp.spawn(two_steps, args=(f"file://{tmp_path / 'rendezvous'}", results), nprocs=2)
        assert results[0] == results[1]
