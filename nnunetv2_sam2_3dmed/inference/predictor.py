"""nnU-Net's predictor, with several windows at once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path

import torch
from batchgenerators.dataloading.multi_threaded_augmenter import MultiThreadedAugmenter
from nnunetv2.inference.sliding_window_prediction import compute_gaussian
from nnunetv2.utilities.helpers import empty_cache
from tqdm import tqdm

from nnunetv2_sam2_3dmed.inference.finite_images import FiniteImages, check_image
from nnunetv2_sam2_3dmed.inference.whole_files import WholeFilesPredictor
from nnunetv2_sam2_3dmed.inference.windows_at_once import WindowsAtOnce
from nnunetv2_sam2_3dmed.network.sam2_3dmed import SAM2_3dMed
from nnunetv2_sam2_3dmed.nnunet.checkpoints import load_checkpoint

Slicer = tuple[slice, ...]


class SAM2_3dMedPredictor(WholeFilesPredictor):
    """nnU-Net's prediction in larger batches.

    A window and its mirrored copies, and as many windows as fit, are one batch: SAM2-3dMed goes through a window slice
    by slice, and one window at a time leaves a GPU idle. Windows are weighted and summed as nnU-Net does, in the same
    order and precision. It works with any network of nnU-Net's.

    When a GPU's memory runs out, there are fewer windows at once, then one without its mirrored copies; then nnU-Net
    sums up on the CPU.

    Args:
        *args: nnU-Net's arguments.
        windows_at_once: windows per batch; None chooses by the memory there is.
        **kwargs: nnU-Net's arguments.
    """

    def __init__(self, *args, windows_at_once: int | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.windows_at_once = windows_at_once
        # of a GPU's memory, by the shape of a window
        self._bytes_of_one: dict[tuple[int, ...], int] = {}

    def initialize_from_trained_model_folder(
        self, model_training_output_dir: str, use_folds, checkpoint_name: str = "checkpoint_final.pth"
    ) -> None:
        """Initialise as nnU-Net does, but refuse checkpoints that hold code, which nnU-Net would run.

        Raises:
            UserError: a checkpoint is damaged or holds code.
        """
        folds = use_folds
        if folds is None:
            folds = self.auto_detect_available_folds(model_training_output_dir, checkpoint_name)
        for fold in [folds] if isinstance(folds, str) else folds:
            load_checkpoint(Path(model_training_output_dir, f"fold_{fold}", checkpoint_name))
        super().initialize_from_trained_model_folder(model_training_output_dir, folds, checkpoint_name)
        self._bytes_of_one.clear()

    def manual_initialization(self, *args, **kwargs) -> None:
        super().manual_initialization(*args, **kwargs)
        self._bytes_of_one.clear()

    @property
    def _sam2_3dmed(self) -> SAM2_3dMed | None:
        """The network, if it is ours, without what compiling wraps around it."""
        network = getattr(self.network, "_orig_mod", self.network)
        return network if isinstance(network, SAM2_3dMed) else None

    # ------------------------------------------------ nnU-Net's hooks

    def predict_from_data_iterator(self, data_iterator, *args, **kwargs):
        """Predict as nnU-Net does; images with NaN or infinite voxels are left out and named at the end.

        Raises:
            UserError: there were such images; all others are predicted.
        """
        images = FiniteImages(data_iterator)
        predicted = super().predict_from_data_iterator(images, *args, **kwargs)
        if isinstance(data_iterator, MultiThreadedAugmenter):
            data_iterator._finish()  # which nnU-Net does where it sees one
        images.check()
        return predicted

    def predict_logits_from_preprocessed_data(self, data: torch.Tensor) -> torch.Tensor:
        """Predict as nnU-Net does.

        Raises:
            UserError: the image has voxels that are no numbers.
        """
        check_image(data)
        return super().predict_logits_from_preprocessed_data(data)

    @torch.inference_mode()
    def _internal_predict_sliding_window_return_logits(
        self, data: torch.Tensor, slicers: Sequence[Slicer], do_on_device: bool = True
    ) -> torch.Tensor:
        """(C, D, H, W) -> (heads, D, H, W), in half precision as nnU-Net's."""
        empty_cache(self.device)
        try:
            return self._sum_over_windows(data, slicers, self.device if do_on_device else torch.device("cpu"))
        except torch.OutOfMemoryError as error:
            failure = type(error)(*error.args)
        # nnU-Net tries again with the sum on the CPU while it handles this error: the error itself would keep the
        # frames of what failed, with all that they hold of the device's memory
        self._free_memory()
        raise failure

    # ------------------------------------------------ the sum over windows

    def _sum_over_windows(
        self, data: torch.Tensor, slicers: Sequence[Slicer], results_device: torch.device
    ) -> torch.Tensor:
        data = data.to(results_device)
        heads = self.label_manager.num_segmentation_heads
        logits = torch.zeros((heads, *data.shape[1:]), dtype=torch.half, device=results_device)
        weights = torch.zeros(data.shape[1:], dtype=torch.half, device=results_device)
        weight = self._weight(results_device)
        with tqdm(total=len(slicers), disable=not self.allow_tqdm) as progress:
            for windows, predicted in self._in_batches(data, slicers):
                for window, prediction in zip(windows, predicted, strict=True):
                    logits[window] += prediction.to(results_device) * weight
                    weights[window[1:]] += weight
                progress.update(len(windows))
        torch.div(logits, weights, out=logits)
        if torch.any(torch.isinf(logits)):
            raise RuntimeError(
                "Predicted logits are infinite: half precision, in which nnU-Net sums, does not hold them."
            )
        return logits

    def _weight(self, device: torch.device) -> torch.Tensor | int:
        """Return the weight of each voxel of a window."""
        if not self.use_gaussian:
            return 1
        tile = tuple(self.configuration_manager.patch_size)
        return compute_gaussian(tile, sigma_scale=1.0 / 8, value_scaling_factor=10, device=device)

    # ------------------------------------------------ batches

    def _in_batches(
        self, data: torch.Tensor, slicers: Sequence[Slicer]
    ) -> Iterator[tuple[Sequence[Slicer], torch.Tensor]]:
        """Yield batches of windows with their logits (B, heads, D, H, W)."""
        shape = tuple(data[slicers[0]].shape)
        batches = self._windows_at_once(shape)
        done = 0
        while done < len(slicers):
            windows = slicers[done : done + batches.next(len(slicers) - done)]
            batches.start()
            predicted = None
            try:
                predicted = self._predict(
                    torch.stack([data[window] for window in windows]).to(self.device), batches.copies_together
                )
            except torch.OutOfMemoryError:
                pass  # to be left before anything else is tried: it holds the memory of what failed
            if predicted is None:
                self._free_memory()
                if not batches.out_of_memory(len(windows)):
                    raise torch.OutOfMemoryError(
                        f"A single window of {shape} voxels does not fit into the GPU's memory."
                    )
                continue
            batches.finished(len(windows))
            if batches.bytes_of_one is not None:
                self._bytes_of_one[shape] = batches.bytes_of_one
            yield windows, predicted
            done += len(windows)

    def _windows_at_once(self, shape: tuple[int, ...]) -> WindowsAtOnce:
        ours = self._sam2_3dmed
        return WindowsAtOnce(
            self.device,
            self.windows_at_once,
            self._bytes_of_one.get(shape),
            None if ours is None else ours.tokens_per_slice,
            prod(shape[1:]) * self.label_manager.num_segmentation_heads * len(self._mirrorings()),
        )

    def _free_memory(self) -> None:
        if self._sam2_3dmed is not None:
            self._sam2_3dmed.slice_cache.clear()
        empty_cache(self.device)

    def _predict(self, stack: torch.Tensor, copies_together: bool) -> torch.Tensor:
        """The mean over a batch (B, C, D, H, W) and its mirrored copies, which are one batch or one after another."""
        copies = self._mirrorings()
        if copies_together:
            predicted = self.network(torch.cat([torch.flip(stack, axes) for axes in copies])).chunk(len(copies))
        else:
            predicted = (self.network(torch.flip(stack, axes)) for axes in copies)
        turned_back = (torch.flip(prediction, axes) for prediction, axes in zip(predicted, copies, strict=True))
        total = next(turned_back)
        for prediction in turned_back:
            total += prediction
        return total.div_(len(copies))

    def _mirrorings(self) -> list[tuple[int, ...]]:
        """The axes of each copy of a batch (B, C, D, H, W), the first is no copy."""
        axes = [axis + 2 for axis in self.allowed_mirroring_axes or ()] if self.use_mirroring else []
        return [c for number in range(len(axes) + 1) for c in itertools.combinations(axes, number)]
