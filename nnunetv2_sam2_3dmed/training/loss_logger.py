"""nnU-Net's local logger with a curve for each term of the loss."""

from __future__ import annotations

from os.path import join

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imread, imsave
from nnunetv2.training.logging.nnunet_logger import LocalLogger


class LossTermsLogger(LocalLogger):
    """Adds a key per loss term, and a fourth panel to ``progress.png``.

    Args:
        terms: names of the terms; each is logged once per epoch as ``train_loss_NAME``.
    """

    def __init__(self, terms: list[str], verbose: bool = False):
        super().__init__(verbose)
        self.terms = terms
        for term in terms:
            self.my_fantastic_logging[self.key(term)] = []

    @staticmethod
    def key(term: str) -> str:
        """The name under which a term is logged."""
        return f"train_loss_{term}"

    def load_checkpoint(self, checkpoint: dict) -> None:
        epochs = len(checkpoint["train_losses"])
        for term in self.terms:
            # a checkpoint of a run that did not log this term: a gap in the curve
            checkpoint.setdefault(self.key(term), [float("nan")] * epochs)
        super().load_checkpoint(checkpoint)

    def plot_progress_png(self, output_folder: str) -> None:
        super().plot_progress_png(output_folder)
        stock = imread(join(output_folder, "progress.png"))
        figure = Figure(figsize=(30, 18))
        canvas = FigureCanvasAgg(figure)
        axes = figure.subplots()
        for term in self.terms:
            values = self.my_fantastic_logging[self.key(term)]
            axes.plot(range(len(values)), values, linewidth=4, label=f"{term} loss (unweighted)")
        axes.set_yscale("log")
        axes.set_xlabel("epoch", fontsize=30)
        axes.set_ylabel("training loss", fontsize=30)
        axes.tick_params(labelsize=26)
        axes.grid(True)
        axes.legend(fontsize=30)
        figure.tight_layout()
        canvas.draw()
        panel = np.asarray(canvas.buffer_rgba(), dtype=np.float32)[..., : stock.shape[2]] / 255
        width = min(panel.shape[1], stock.shape[1])
        imsave(join(output_folder, "progress.png"), np.vstack([stock[:, :width], panel[:, :width]]))
