"""Cache of scores in a folder beside the result.

A score is kept under a digest of all that it depends on, above all the contents of both files. An entry that is found
therefore equals what would be computed; a file that was replaced, also by one on another voxel grid, is read anew.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

from nnunetv2_sam2_3dmed.evaluation.cases import CaseEvaluator, CaseScores, ComparedCase
from nnunetv2_sam2_3dmed.evaluation.grids import GridDifference
from nnunetv2_sam2_3dmed.evaluation.metrics import MaskMetrics
from nnunetv2_sam2_3dmed.files import write_text

FOLDER = ".cache"

# modules that compute the scores: when one of them changes, all is computed again
_CODE = ("cases.py", "grids.py", "metrics.py", "segmentations.py", "surfaces.py")
_PACKAGES = ("surface-distance", "nnunetv2", "simpleitk", "nibabel", "numpy", "scipy")
# companion files: the spacing of TIFF, the voxels of MetaImage, NRRD and Analyze
_COMPANIONS = (".json", ".raw", ".zraw", ".img")

_Entry = tuple[dict[str, MaskMetrics], GridDifference | None]


@dataclass(frozen=True)
class CachedEvaluator:
    """An evaluator that scores each prediction only once.

    Several processes may share the folder: an entry is a file of its own, written beside and renamed. An entry that
    cannot be understood is replaced.

    Attributes:
        evaluator: computes the scores.
        folder: where they are kept; made when the first is.
    """

    evaluator: CaseEvaluator
    folder: Path

    def __call__(self, case: ComparedCase) -> CaseScores:
        """Scores of ``case`` and the grid differences of its predictions.

        Raises:
            UserError: if a file cannot be read, or a prediction lies elsewhere than the ground truth.
        """
        gt = _digest(case.gt)
        entries = {method: self._entry(gt, _digest(file)) for method, file in case.predictions.items()}
        known = {method: self._load(entry) for method, entry in entries.items()}
        unknown = {method: case.predictions[method] for method, entry in known.items() if entry is None}
        scores: dict[str, Mapping[str, MaskMetrics]] = {}
        off_grid: dict[str, GridDifference] = {}
        for method, entry in known.items():
            if entry is not None:
                scores[method], difference = entry
                if difference is not None:
                    # the allowed difference depends on folders and images, which the entry does not
                    self.evaluator.check(case, method, difference)
                    off_grid[method] = difference
        if unknown:
            computed = self.evaluator(replace(case, predictions=unknown))
            for method, by_class in computed.scores.items():
                # a file that was replaced meanwhile was perhaps not read as it was digested
                if self._entry(_digest(case.gt), _digest(unknown[method])) == entries[method]:
                    self._save(entries[method], by_class, computed.off_grid.get(method))
            scores.update(computed.scores)
            off_grid.update(computed.off_grid)
        return CaseScores({method: scores[method] for method in case.predictions}, off_grid)

    def _entry(self, gt: str, prediction: str) -> Path:
        """File of a prediction's scores, named by a digest of all that they depend on."""
        reader = type(self.evaluator.reader)
        basis = {
            "gt": gt,
            "prediction": prediction,
            "classes": list(self.evaluator.classes.items()),
            "ignore_label": self.evaluator.ignore_label,
            "tolerance_mm": self.evaluator.tolerance_mm,
            "reader": f"{reader.__module__}.{reader.__qualname__}",
            "code": _metric_code(),
        }
        return self.folder / f"{hashlib.sha256(json.dumps(basis).encode()).hexdigest()}.json"

    def _load(self, entry: Path) -> _Entry | None:
        """Content of an entry; None if there is none, or it is damaged."""
        try:
            content = json.loads(entry.read_text(encoding="utf-8"))
            return _scores(content["scores"], self.evaluator.classes), _difference(content["off_grid"])
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return None

    def _save(self, entry: Path, scores: Mapping[str, MaskMetrics], difference: GridDifference | None) -> None:
        values = {
            name: {key: None if math.isnan(value) else value for key, value in asdict(metrics).items()}
            for name, metrics in scores.items()
        }
        off_grid = None if difference is None else asdict(difference)
        write_text(entry, json.dumps({"scores": values, "off_grid": off_grid}))


def _scores(content: Any, classes: Mapping[str, Any]) -> dict[str, MaskMetrics]:
    """Scores in an entry.

    Raises:
        ValueError, TypeError, KeyError: the entry is damaged.
    """
    return {name: MaskMetrics(**{key: _value(key, value) for key, value in content[name].items()}) for name in classes}


def _value(key: str, value: Any) -> float:
    return math.nan if value is None and key == "hd95_mm" else float(value)  # only distances can be missing


def _difference(content: Any) -> GridDifference | None:
    """Grid difference in an entry.

    Raises:
        ValueError, TypeError, KeyError: the entry is damaged.
    """
    if content is None:
        return None
    gt, prediction = (tuple(map(float, content[name])) for name in ("gt", "prediction"))
    apart = (float(content[name]) for name in ("apart_mm", "apart_voxels"))
    return GridDifference(str(content["differs"]), gt, prediction, *apart)


def _digest(file: Path) -> str:
    """SHA-256 of a file's content, and of that of its companions."""
    stem = Path(file.name.removesuffix(".gz")).stem
    companions = [file.with_name(stem + ending) for ending in _COMPANIONS]
    digest = hashlib.sha256()
    for part in (file, *(c for c in companions if c != file and c.is_file())):
        digest.update(f"{part.suffix}:{_content_digest(part)};".encode())
    return digest.hexdigest()


def _content_digest(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(2**20):
            digest.update(block)
    return digest.hexdigest()


@functools.cache
def _metric_code() -> dict[str, str]:
    """SHA-256 of our sources that compute the scores, and versions of the packages that they use."""
    folder = files("nnunetv2_sam2_3dmed.evaluation")
    sources = hashlib.sha256(b"".join((folder / name).read_bytes() for name in _CODE)).hexdigest()
    return {"sources": sources, **{package: version(package) for package in _PACKAGES}}
