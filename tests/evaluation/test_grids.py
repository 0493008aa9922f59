"""Grids that differ by as much as they were made to, and what becomes of such predictions."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from nnunetv2.imageio.nibabel_reader_writer import NibabelIO
from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.cases import CaseEvaluator, ComparedCase, is_validation
from nnunetv2_sam2_3dmed.evaluation.compare import compare
from nnunetv2_sam2_3dmed.evaluation.grids import GridDifference, grid_difference, offset_warning
from nnunetv2_sam2_3dmed.evaluation.segmentations import read_segmentation

pytestmark = pytest.mark.filterwarnings("ignore:Please import:DeprecationWarning")

SHAPE, SPACING = (4, 6, 8), (5.0, 2.0, 1.0)  # z, y, x
FOLD = Path("nnUNetTrainer__nnUNetPlans__3d_fullres/fold_0/validation")
TURNED = (-1, 0, 0, 0, -1, 0, 0, 0, 1)  # x and y run the other way


def block() -> np.ndarray:
    labels = np.zeros(SHAPE)
    labels[1:3, 1:4, 2:6] = 1
    return labels


@pytest.mark.parametrize("reader", [SimpleITKIO(), NibabelIO()])
@pytest.mark.parametrize(
    ("other", "differs", "mm", "voxels"),
    [
        # origins are x, y, z
        ({"origin": (0.5, 0, 0)}, "origin", 0.5, 0.5),
        ({"origin": (0, 3, 4)}, "origin", 5.0, 1.5),
        # the last of 6 rows is 5 steps away from the first, each 0.1 mm longer
        ({"spacing": (5.0, 2.1, 1.0)}, "spacing", 0.5, 0.25),
        # the far corner is at (-7, -10) mm instead of (7, 10)
        ({"direction": TURNED}, "direction", 2 * np.hypot(7, 10), 14.0),
    ],
)
def test_how_far_two_grids_are_apart(tmp_path, write_labels, reader, other, differs, mm, voxels):
    files = [
        write_labels(tmp_path / "truth.nii.gz", block(), SPACING),
        write_labels(tmp_path / "prediction.nii.gz", block(), **{"spacing": SPACING, **other}),
    ]
    truth, prediction = (read_segmentation(file, reader) for file in files)
    difference = grid_difference(truth, files[0], prediction, files[1])
    assert difference is not None and difference.differs == differs
    assert difference.apart_mm == pytest.approx(mm, rel=1e-5)
    assert difference.apart_voxels == pytest.approx(voxels, rel=1e-5)
    assert grid_difference(truth, files[0], truth, files[0]) is None


def test_two_dimensional_files_have_grids_too(tmp_path, write_labels):
    labels = np.ones((6, 8))
    files = [
        write_labels(tmp_path / "truth.nii.gz", labels, (2, 1)),
        write_labels(tmp_path / "prediction.nii.gz", labels, (2, 1), origin=(3, 0)),
    ]
    truth, prediction = (read_segmentation(file, SimpleITKIO()) for file in files)
    difference = grid_difference(truth, files[0], prediction, files[1])
    assert difference is not None and (difference.apart_mm, difference.apart_voxels) == (3, 3)


@pytest.mark.parametrize("other", [{"origin": (300, 0, 0)}, {"direction": TURNED}, {"spacing": (2.5, 2.0, 1.0)}])
def test_nnunet_s_own_folds_are_compared_voxel_by_voxel(tmp_path, write_labels, other):
    truth = write_labels(tmp_path / "truth.nii.gz", block(), SPACING)
    moved = np.roll(block(), 1, axis=0)
    prediction = write_labels(tmp_path / FOLD / "case.nii.gz", moved, **{"spacing": SPACING, **other})
    evaluated = CaseEvaluator({"organ": (1,)}, None, SimpleITKIO(), 1.0)(ComparedCase("case", truth, {"m": prediction}))
    assert evaluated.scores["m"]["organ"].dice == 0.5  # one of two slices is common
    assert evaluated.scores["m"]["organ"].hd95_mm == 5.0  # a slice of the truth
    assert list(evaluated.off_grid) == ["m"]


def test_others_predictions_may_lie_up_to_a_voxel_away(tmp_path, write_labels):
    truth = write_labels(tmp_path / "truth.nii.gz", block(), SPACING)
    evaluator = CaseEvaluator({"organ": (1,)}, None, SimpleITKIO(), 1.0)
    near = write_labels(tmp_path / "near.nii.gz", block(), SPACING, origin=(0.9, 0, 0))
    assert evaluator(ComparedCase("case", truth, {"m": near})).off_grid["m"].apart_voxels == pytest.approx(0.9)
    far = write_labels(tmp_path / "far.nii.gz", block(), SPACING, origin=(1.1, 0, 0))
    with pytest.raises(UserError, match=r"far.nii.gz has origin .* 1.10 mm \(1.1 voxels\) apart: resample"):
        evaluator(ComparedCase("case", truth, {"m": far}))
    # the image says that it was predicted from it, and that the truth's header is the one that is off
    image = write_labels(tmp_path / "case_0000.nii.gz", 7 * block(), SPACING, origin=(1.1, 0, 0))
    assert evaluator(ComparedCase("case", truth, {"m": far}, image)).scores["m"]["organ"].dice == 1
    other_image = write_labels(tmp_path / "case_0000.nii.gz", 7 * block(), SPACING)
    with pytest.raises(UserError, match="1.1 voxels"):
        evaluator(ComparedCase("case", truth, {"m": far}, other_image))


@pytest.mark.parametrize(
    ("folder", "own"),
    [
        (str(FOLD), True),
        ("A__B__C/fold_all/validation_last", True),
        ("A__B__C/fold_0/other", False),
        ("A__B/fold_0/validation", False),
        ("somebody/validation", False),
    ],
)
def test_folders_of_validations(folder, own):
    assert is_validation(Path(folder)) == own


def test_many_cases_are_one_sentence():
    def apart(mm: float) -> GridDifference:
        return GridDifference("origin", (0, 0, 0), (mm, 0, 0), mm, mm)

    told = offset_warning({"a": {f"case_{i}": apart(i / 2) for i in range(1, 8)}, "b": {}})
    assert told is not None
    assert told.startswith(
        "predictions of a have the shape of their ground truth, but another place in space, in 7 cases: "
    )
    assert "case_7 (origin, 3.50 mm apart); case_6" in told and told.count("apart)") == 5
    assert "and 2 more, less far apart" in told and told.count(". ") == 1
    assert offset_warning({"a": {}, "b": {}}) is None


# ---- in the command


@pytest.fixture
def tree(tmp_path, monkeypatch, write_labels) -> Path:
    """Three cases; the truth of one lies half a millimetre off its image and its prediction."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    dataset = "Dataset042_Blocks"
    for case in ("case_0", "case_1", "case_2"):
        origin = (0.5, 0, 0) if case == "case_1" else (0, 0, 0)
        file = f"{case}.nii.gz"
        truths = tmp_path / "nnUNet_preprocessed" / dataset / "gt_segmentations"
        write_labels(truths / file, block(), SPACING, origin)
        write_labels(tmp_path / "nnUNet_results" / dataset / FOLD / file, block(), SPACING)
        write_labels(tmp_path / "nnUNet_raw" / dataset / "imagesTr" / f"{case}_0000.nii.gz", block(), SPACING)
    (tmp_path / "nnUNet_results" / dataset / FOLD / "summary.json").write_text('{"metric_per_case": []}')
    content = {"labels": {"background": 0, "block": 1}, "channel_names": {"0": "CT"}, "file_ending": ".nii.gz"}
    (tmp_path / "nnUNet_preprocessed" / dataset / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def test_half_a_millimetre_is_a_warning_in_all_that_is_written(tree, capsys):
    command = ["compare", "-d", "42", "-o", str(tree / "out"), "--processes", "1"]
    for _ in range(2):  # the second time from the cache
        assert main(command) == 0
        sentence = "in 1 case: case_1 (origin, 0.50 mm apart). They were compared voxel by voxel, as nnU-Net does"
        assert sentence in capsys.readouterr().out
        assert sentence in (tree / "out" / "comparison.md").read_text()
        assert sentence in (tree / "out" / "comparison.tex").read_text()
        content = json.loads((tree / "out" / "comparison.json").read_text())
        assert sentence in content["warnings"][0]
        (method,) = content["off_grid"]
        assert content["off_grid"][method]["case_1"]["apart_mm"] == 0.5
        assert content["results"][0]["dice"]["mean"] == 1
        with (tree / "out" / "per_case.csv").open(newline="") as file:
            assert [row["off_grid_mm"] for row in csv.DictReader(file)] == ["", "0.5", ""]


def test_a_cached_score_is_no_permission(tree, capsys, write_labels):
    folder = tree / "nnUNet_results" / "Dataset042_Blocks" / FOLD
    write_labels(folder / "case_0.nii.gz", block(), SPACING, origin=(30, 0, 0))
    out = ["-o", str(tree / "out"), "--processes", "1"]
    assert main(["compare", "-d", "42", *out]) == 0
    folder.rename(tree / "others")
    capsys.readouterr()
    assert main(["compare", "-d", "42", "-m", f"x={tree / 'others'}", *out]) == 2
    assert "30.00 mm (30.0 voxels) apart" in capsys.readouterr().err


def test_all_cases_that_cannot_be_compared_are_named_and_nothing_is_written(tree, capsys):
    folder = tree / "nnUNet_results" / "Dataset042_Blocks" / FOLD
    for case in ("case_0", "case_2"):
        content = bytearray((folder / f"{case}.nii.gz").read_bytes())
        content[-8] ^= 1  # of gzip's checksum: found when the file is read, not by its length
        (folder / f"{case}.nii.gz").write_bytes(content)
    assert main(["compare", "-d", "42", "-o", str(tree / "out"), "--processes", "1"]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert "2 of 3 cases cannot be compared, and none is left out" in said
    assert f"{folder / 'case_0.nii.gz'} is damaged" in said and f"{folder / 'case_2.nii.gz'} is damaged" in said
    assert [file.name for file in (tree / "out").iterdir()] == [".cache"]
    assert len(list((tree / "out" / ".cache").iterdir())) == 1  # the score of the third is kept


def test_what_nobody_foresaw_is_told_with_its_case(tree, monkeypatch):
    def fail(file, reader):
        raise KeyError("surprise")

    monkeypatch.setattr("nnunetv2_sam2_3dmed.evaluation.cases.read_segmentation", fail)
    dataset = "Dataset042_Blocks"
    with pytest.raises(UserError, match="case_0: KeyError: 'surprise' .not foreseen; SAM2_3dMed_debug=1"):
        compare(
            {"m": [tree / "nnUNet_results" / dataset / FOLD]},
            tree / "nnUNet_preprocessed" / dataset / "gt_segmentations",
            json.loads((tree / "nnUNet_preprocessed" / dataset / "dataset.json").read_text()),
            tree / "out",
            processes=1,
            progress=False,
        )


def test_a_script_without_a_main_guard_is_told_so(tree):
    dataset = "Dataset042_Blocks"
    script = tree / "script.py"
    script.write_text(
        f"""
import json
from pathlib import Path
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.evaluation.compare import compare

root = Path({str(tree)!r})
try:
    compare(
        {{"m": [root / "nnUNet_results" / "{dataset}" / "{FOLD}"]}},
        root / "nnUNet_preprocessed" / "{dataset}" / "gt_segmentations",
        json.loads((root / "nnUNet_preprocessed" / "{dataset}" / "dataset.json").read_text()),
        root / "out",
        processes=2,
        progress=False,
    )
except UserError as error:
    print(error)
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert 'under `if __name__ == "__main__":`' in done.stdout and done.stdout.count("\n") == 1
    assert "memory" not in done.stdout and "Traceback" not in done.stderr
