"""Display of a running experiment: a live table on a terminal, lines of changes elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from time import monotonic
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from nnunetv2_sam2_3dmed.experiments.progress import DONE, FAILED, RUNNING, WAITING, RunProgress, seconds_left
from nnunetv2_sam2_3dmed.experiments.runs import TrainingRun
from nnunetv2_sam2_3dmed.experiments.specification import Specification

STYLES = {DONE: "green", RUNNING: "yellow", FAILED: "bold red", WAITING: "dim"}


class Display:
    """Context manager that shows the progress of runs.

    Args:
        specification: for rows and columns.
        runs: in order.
        devices: how many runs go on at a time.
        console: default: standard output.
    """

    def __init__(
        self, specification: Specification, runs: Sequence[TrainingRun], devices: int, console: Console | None = None
    ):
        self.specification = specification
        self.runs = runs
        self.devices = devices
        self.console = console or Console()
        self._live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self._kinds: dict[str, str] = {run.path: WAITING for run in runs}
        self._start = monotonic()

    def __enter__(self) -> Display:
        if self._live:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._live:
            self._live.__exit__(kind, error, traceback)

    def show(self, progress: Mapping[str, RunProgress]) -> None:
        """Show the progress of all runs, given by their paths."""
        if self._live:
            self._live.update(self.table(progress), refresh=True)
            return
        for path, seen in progress.items():
            if seen.kind != self._kinds[path]:
                self._kinds[path] = seen.kind
                self.say(f"{datetime.now():%H:%M:%S} {seen.kind:<8}{path}{f' ({seen.note})' if seen.note else ''}")

    def say(self, text: str) -> None:
        """Print a text as it is, above the table."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, progress: Mapping[str, RunProgress]) -> Table:
        """Return a table with a row for each method on a dataset and a column for each fold and seed."""
        seeds = self.specification.seeds or (None,)
        columns = [(fold, seed) for seed in seeds for fold in self.specification.folds]
        table = Table(title=self.specification.name, caption=self._caption(progress))
        table.add_column("dataset")
        table.add_column("method")
        for fold, seed in columns:
            table.add_column(f"fold {fold}" + ("" if seed is None else f"\nseed {seed}"))
        for dataset in dict.fromkeys(run.dataset for run in self.runs):
            for method in self.specification.methods:
                runs = [TrainingRun(dataset, method.seeded(seed), fold) for fold, seed in columns]
                table.add_row(dataset, method.title, *(_cell(progress[run.path]) for run in runs))
        return table

    def _caption(self, progress: Mapping[str, RunProgress]) -> str:
        kinds = [seen.kind for seen in progress.values()]
        counts = ", ".join(f"{kinds.count(kind)} {kind}" for kind in STYLES if kind in kinds)
        left = seconds_left(self.runs, progress, self.devices)
        rest = "not known yet" if left is None else f"about {_duration(left)}"
        return f"{counts}; {_duration(monotonic() - self._start)} since the start; left: {rest}"


def _cell(seen: RunProgress) -> Text:
    return Text(seen.note or seen.kind, style=STYLES[seen.kind])


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
