import pytest
import torch

from nnunetv2_sam2_3dmed.inference import windows_at_once
from nnunetv2_sam2_3dmed.inference.windows_at_once import MOST, WindowsAtOnce

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
GIB = 2**30


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of 10 GiB, of which what torch holds is 2 GiB, half of that in use."""
    state = {"free": 8 * GIB, "reserved": 2 * GIB, "allocated": 1 * GIB, "peak": 0}
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "mem_get_info", lambda _: (state["free"], 10 * GIB))
    monkeypatch.setattr(cuda, "memory_reserved", lambda _: state["reserved"])
    monkeypatch.setattr(cuda, "memory_allocated", lambda _: state["allocated"])
    monkeypatch.setattr(cuda, "max_memory_allocated", lambda _: state["peak"])
    monkeypatch.setattr(cuda, "reset_peak_memory_stats", lambda _: None)
    return state


def test_a_gpu_takes_what_fits_after_one_window_was_measured(gpu):
    batches = WindowsAtOnce(CUDA)
    assert batches.next(31) == 1
    batches.start()
    gpu["peak"] = 1 * GIB + GIB // 2  # half a GiB more than before
    batches.finished(1)
    # 0.7 of 9 GiB that are free or held and unused, at half a GiB each: 12; 30 windows in three batches of ten
    assert batches.next(30) == 10
    gpu["free"] = 0
    assert batches.next(30) == 1


def test_a_gpu_takes_no_more_than_is_of_use(gpu):
    batches = WindowsAtOnce(CUDA)
    batches.start()
    gpu["peak"] = gpu["allocated"] + 1
    batches.finished(1)
    assert batches.next(MOST) == MOST
    assert batches.next(MOST + 1) == MOST // 2 + 1


def test_what_one_window_needed_before_is_remembered_by_whoever_asks(gpu):
    batches = WindowsAtOnce(CUDA)
    batches.start()
    gpu["peak"] = gpu["allocated"] + 6 * GIB
    batches.finished(3)
    assert batches.bytes_of_one == 2 * GIB
    assert WindowsAtOnce(CUDA, bytes_of_one=2 * GIB).next(30) == 3  # 0.7 of 9 GiB


def test_what_is_wanted_is_taken_until_memory_runs_out(gpu):
    batches = WindowsAtOnce(CUDA, wanted=6)
    assert batches.next(12) == 6
    assert batches.out_of_memory(6)
    assert batches.next(12) == 3
    assert batches.out_of_memory(3)
    assert batches.next(12) == 1 and batches.copies_together
    assert batches.out_of_memory(1)
    assert batches.next(12) == 1 and not batches.copies_together
    assert not batches.out_of_memory(1)


def test_on_a_cpu_small_images_go_together_as_far_as_their_logits_fit(monkeypatch):
    monkeypatch.setattr(windows_at_once, "_CPU_TOKENS", 1000)
    monkeypatch.setattr(windows_at_once, "_CPU_LOGITS", 300)
    assert WindowsAtOnce(CPU, tokens_per_slice=1001).next(100) == 1
    assert WindowsAtOnce(CPU, tokens_per_slice=250).next(100) == 4
    assert WindowsAtOnce(CPU, tokens_per_slice=250, logits_of_one=100).next(99) == 3
    assert WindowsAtOnce(CPU, tokens_per_slice=250, logits_of_one=301).next(100) == 1
    other = WindowsAtOnce(CPU)
    assert other.next(100) == 1 and not other.copies_together, "nnU-Net's own networks"
