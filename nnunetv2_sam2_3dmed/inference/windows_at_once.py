"""Number of windows per batch."""

from __future__ import annotations

from math import ceil

import torch

# beyond this a GPU has long been busy, and only the memory grows
MOST = 64
# of the memory that is free, by what a window was seen to need
_SHARE = 0.7
# on a CPU, stride-16 features of the slices that are worked on at once: with fewer, the overhead of many small
# operations counts; more bring nothing
_CPU_TOKENS = 1024
# on a CPU, numbers that the predictions of all windows and their mirrored copies may have: 1 GiB
_CPU_LOGITS = 2**28


class WindowsAtOnce:
    """Choice of the number for one volume, lowered when a GPU's memory runs out.

    On a GPU the number follows from what the windows before needed; where that is not known, the first goes alone.

    Args:
        device: where the network runs.
        wanted: a number that is taken as it is, as long as it fits; None to choose.
        bytes_of_one: what a window needed before, of a GPU's memory; None if that is not known.
        tokens_per_slice: stride-16 features of a slice of our network; None for another kind of network.
        logits_of_one: numbers in the prediction of a window and its mirrored copies.
    """

    def __init__(
        self,
        device: torch.device,
        wanted: int | None = None,
        bytes_of_one: int | None = None,
        tokens_per_slice: int | None = None,
        logits_of_one: int = 1,
    ):
        self.device = device
        self.bytes_of_one = bytes_of_one
        # on a CPU batches bring nothing to a network that is no chain of small operations
        self.copies_together = device.type == "cuda" or tokens_per_slice is not None
        self._chooses = wanted is None
        self._most = MOST if wanted is None else wanted
        if wanted is None and device.type != "cuda":
            by_tokens = 1 if tokens_per_slice is None else _CPU_TOKENS // tokens_per_slice
            self._most = max(1, min(MOST, by_tokens, _CPU_LOGITS // logits_of_one))

    def next(self, left: int) -> int:
        """Return how many of the ``left`` windows to take now; batches of a volume have about the same size."""
        most = self._most
        if self.device.type == "cuda" and self._chooses:
            most = min(most, self._that_fit())
        return ceil(left / ceil(left / most))

    def _that_fit(self) -> int:
        if self.bytes_of_one is None:
            return 1
        free, _ = torch.cuda.mem_get_info(self.device)
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return max(1, int(_SHARE * (free + unused) / max(self.bytes_of_one, 1)))

    def start(self) -> None:
        """Before a batch; resets torch's statistics of peak memory."""
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)

    def finished(self, number: int) -> None:
        """After a batch of ``number`` windows."""
        if self.device.type == "cuda":
            self.bytes_of_one = (torch.cuda.max_memory_allocated(self.device) - self._before) // number

    def out_of_memory(self, number: int) -> bool:
        """After a batch of ``number`` windows did not fit; False if there is nothing left to lower."""
        if number == 1 and not self.copies_together:
            return False
        if number == 1:
            self.copies_together = False
        self._most = max(1, number // 2)
        return True
