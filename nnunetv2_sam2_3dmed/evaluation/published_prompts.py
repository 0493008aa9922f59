"""Published results of prompted segmentation, and of the methods that their authors compared with."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnunetv2_sam2_3dmed.evaluation.published import read_published

PROMPTED, INTERACTIVE, SUPERVISED = "prompted", "interactive in 3D", "supervised"
MEAN, MEDIAN = "mean", "median"
ALL, SALIENT = "all", "salient"
_TASKS = {"brats": "BraTS2020", "spleen": "Spleen", "liver": "Liver", "lung": "Lung", "pancreas": "Pancreas"}
INTERACTIVE_PAPER = "arXiv 2408.02635"
_PARENTHESES = re.compile(r" \(([^)]+)\)")


@dataclass(frozen=True)
class PublishedResult:
    """A published result of a method on a task; figures in per cent, as text, empty where there is none.

    Attributes:
        method: name of the method and of its model.
        kind: :data:`PROMPTED`, :data:`INTERACTIVE` (clicks in the volume) or :data:`SUPERVISED`.
        task: name of the task.
        prompt: name of the protocol of ``prompt-benchmark`` that prompts likewise; empty for other methods, and where
            the prompt is not stated.
        area: :data:`ALL` slices, or the :data:`SALIENT` ones.
        statistic: :data:`MEAN` or :data:`MEDIAN` of the figures over cases.
        dice: Dice.
        quartiles: first and third quartile of Dice.
        nsd: NSD.
        cases: number of cases.
        source: publication, and the table or figure.
    """

    method: str
    kind: str
    task: str
    prompt: str
    area: str
    statistic: str
    dice: str
    quartiles: tuple[str, str]
    nsd: str
    cases: str
    source: str

    @property
    def prompt_and_area(self) -> str:
        """The prompt in words."""
        words = self.prompt.replace("_", " ") or (self.kind if self.kind != PROMPTED else "not stated")
        return f"{words}, salient" if self.area == SALIENT else words


def published_results() -> list[PublishedResult]:
    """Return all published results."""
    results = [result for row in read_published("sam2_interactive_paper.csv") for result in _of_interactive(row)]
    for row in read_published("prompted_papers.csv"):
        quartiles = (row["q1"], row["q3"])
        figures = (row["statistic"], row["dice"], quartiles, "", row["n"], row["source"])
        results.append(PublishedResult(row["method"], PROMPTED, row["task"], row["prompt"], ALL, *figures))
    return results


def task_of(dataset: str) -> str:
    """Return the task of a dataset of nnU-Net, such as ``brats2020`` of Dataset137_BraTS_2020, as it is compared."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"^Dataset\d{3}_", "", dataset).lower())


def published_for(dataset: str, prompts: Sequence[str] | None = None, area: str | None = None) -> list[PublishedResult]:
    """Return what was published for a task.

    Args:
        dataset: nnU-Net's name of the dataset.
        prompts: results of these protocols, beside which those of methods without such prompts are kept; None for all.
        area: :data:`ALL` or :data:`SALIENT`; methods without prompts have results for all slices only, and are kept.
    """
    return [
        result
        for result in published_results()
        if task_of(result.task) == task_of(dataset)
        and (result.kind != PROMPTED or prompts is None or result.prompt in prompts)
        and (result.kind != PROMPTED or area is None or result.area == area)
    ]


def _of_interactive(row: Mapping[str, str]) -> list[PublishedResult]:
    """Return the results of a row of Tables 1 and 2 of arXiv 2408.02635, one per task."""
    words = _PARENTHESES.findall(row["method"])
    name = _PARENTHESES.sub("", row["method"])
    if name.startswith("SAM 2"):
        kind, prompt = PROMPTED, words[0].replace(" ", "_")
    else:
        kind, prompt = INTERACTIVE if row["table"] == "1" else SUPERVISED, ""
        name = row["method"]
    area = SALIENT if "salient area" in words else ALL
    results = []
    for column, task in _TASKS.items():
        dice, nsd = row[f"{column}_dice"], row.get(f"{column}_nsd", "")
        if dice:
            tables = "Table 2" if not _in_first(column, row) else "Table 1" if not nsd else "Tables 1 and 2"
            source = f"{INTERACTIVE_PAPER}, {tables}"
            results.append(PublishedResult(name, kind, task, prompt, area, MEAN, dice, ("", ""), nsd, "", source))
    return results


def _in_first(column: str, row: Mapping[str, str]) -> bool:
    """Return if a result is in Table 1, which has no lung, no pancreas and no supervised method."""
    return "1" in row["table"] and column in ("brats", "spleen", "liver")
