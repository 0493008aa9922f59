"""nnU-Net's local logger with a curve for each term of the loss."""

from __future__ import annotations

from os.path import join

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from nnunetv2.training.logging.nnunet_logger import LocalLogger


class LossTermsLogger(LocalLogger):
    """nnU-Net's logger with a key per loss term, and a panel for them to ``progress.png``.

    Args:
        terms: names of the terms; each is logged once per epoch as ``train_loss_NAME``.
    """

    def __init__(self, terms: list[str], verbose: bool = False):
        super().__init__(verbose)
        self.stopped_early: str | None = None  # why, for the checkpoint and the plot
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
        # why a training stopped belongs to the epoch it stopped at: whoever goes on decides anew
        super().load_checkpoint({key: value for key, value in checkpoint.items() if key != "stopped_early"})

    def get_checkpoint(self) -> dict:
        return {**super().get_checkpoint(), "stopped_early": self.stopped_early}

    def plot_progress_png(self, output_folder: str) -> None:
        """nnU-Net's three panels (loss and pseudo Dice, epoch duration, learning rate) and the loss terms."""
        logged = self.my_fantastic_logging
        epochs = min(len(values) for values in logged.values())
        figure = Figure(figsize=(14, 24), dpi=80)
        canvas = FigureCanvasAgg(figure)
        losses, terms, durations, rates = figure.subplots(4, 1)

        _curves(losses, "loss", epochs, {"loss_tr": logged["train_losses"], "loss_val": logged["val_losses"]})
        dice = losses.twinx()
        dice.plot(logged["mean_fg_dice"][:epochs], "g:", label="pseudo dice")
        dice.plot(logged["ema_fg_dice"][:epochs], "g-", label="pseudo dice (mov. avg.)")
        dice.set_ylabel("pseudo dice")
        dice.legend(loc="lower right")

        _curves(terms, "training loss terms, unweighted", epochs, {t: logged[self.key(t)] for t in self.terms})
        # Dice losses are negative
        terms.set_yscale("symlog", linthresh=0.01)

        starts, ends = logged["epoch_start_timestamps"], logged["epoch_end_timestamps"]
        _curves(durations, "time [s]", epochs, {"epoch duration": [end - start for start, end in zip(starts, ends)]})
        durations.set_ylim(bottom=0)
        _curves(rates, "learning rate", epochs, {"learning rate": logged["lrs"]})
        if self.stopped_early is not None:
            figure.suptitle(self.stopped_early)
        figure.tight_layout()
        canvas.print_png(join(output_folder, "progress.png"))


def _curves(axes: Axes, ylabel: str, epochs: int, curves: dict[str, list[float]]) -> None:
    for label, values in curves.items():
        axes.plot(values[:epochs], label=label, linewidth=2)
    axes.set_xlabel("epoch")
    axes.set_ylabel(ylabel)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left")
