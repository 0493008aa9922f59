from contextlib import ExitStack
from threading import Thread

import torch
from torch.backends.cuda import flash_sdp_enabled, math_sdp_enabled  # despite its name, for every device

from nnunetv2_sam2_3dmed.network.attention import attention_kernels


def test_small_images_on_a_cpu_use_plain_matrix_products():
    assert flash_sdp_enabled() and math_sdp_enabled()
    with attention_kernels(torch.device("cpu"), tokens=36):
        assert math_sdp_enabled() and not flash_sdp_enabled()
    for device, tokens in (("cpu", 256), ("cuda", 36)):
        with attention_kernels(torch.device(device), tokens):
            assert flash_sdp_enabled()


def test_threads_that_overlap_leave_torchs_choice_as_it_was():
    first, second = ExitStack(), ExitStack()

    def enter(stack: ExitStack) -> None:
        stack.enter_context(attention_kernels(torch.device("cpu"), tokens=36))

    for step in (lambda: enter(first), lambda: enter(second), first.close):
        thread = Thread(target=step)
        thread.start()
        thread.join()
        assert not flash_sdp_enabled()
    second.close()
    assert flash_sdp_enabled()
