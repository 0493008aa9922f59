"""Masks taken as corrected, confirmed or machine; nothing is written where anything is wrong."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.annotation import taking
from nnunetv2_sam2_3dmed.annotation.record import locked, read_record, voxels_sha256
from nnunetv2_sam2_3dmed.annotation.rounds import ObjectScore, RankedCase, Round
from nnunetv2_sam2_3dmed.annotation.taking import Review, choose, mean_dice, take
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.network.checkpoints import sha256_of
from tests.annotation.conftest import MADE_BY, SHAPE, machine, read, write
from tests.faults import file_size_limit


@pytest.fixture
def done(dataset, images, folders) -> Round:
    """Two cases; the model is surer of the first."""
    made = Round(folders / "round_a", MADE_BY)
    for number, disagreement in ((1, 0.04), (2, 0.3)):
        name = f"new_{number}"
        mask = write(made.mask(name), machine(number))
        scored = [ObjectScore(1, "organ", disagreement, None, 300), ObjectScore(3, "lesion", 0.01, 0.02, 4)]
        image = images / f"{name}_0000.nii.gz"
        made.cases[name] = RankedCase(
            str(image), sha256_of(image), ["box"], ["box"], sha256_of(mask), "2026-01-01", scored
        )
    made.save()
    return made


@pytest.fixture
def corrected(folders):
    """The first as the machine made it, but written again; of the second a voxel differs."""
    mask = machine(2)
    mask[0, 0, 0] = 3
    write(folders / "corrected" / "new_1.nii.gz", machine(1).astype(np.float32))
    write(folders / "corrected" / "new_2.nii.gz", mask, origin=1e-4)
    return folders / "corrected"


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def sources(chosen):
    return {taken.case: taken.annotation.source for taken in chosen}


def test_one_voxel_makes_a_corrected_mask_and_a_new_file_does_not(dataset, done, corrected):
    assert sources(choose(dataset, done, Review(corrected))) == {"new_2": "corrected"}
    confirmed = Review(corrected, ["new_1", "new_2"])
    assert sources(choose(dataset, done, confirmed)) == {"new_1": "confirmed", "new_2": "corrected"}


def test_unseen_masks_are_taken_up_to_the_disagreement_that_is_named(dataset, done, corrected):
    assert sources(choose(dataset, done, Review())) == {}
    assert sources(choose(dataset, done, Review(accept_below=0.03))) == {}
    assert sources(choose(dataset, done, Review(accept_below=0.04))) == {"new_1": "machine"}
    assert sources(choose(dataset, done, Review(confirmed=["new_2"]))) == {"new_2": "confirmed"}
    everything = choose(dataset, done, Review(corrected, accept_below=0.5))
    assert sources(everything) == {"new_1": "machine", "new_2": "corrected"}


def test_files_record_and_number_of_cases(dataset, done, corrected, images):
    take(dataset, choose(dataset, done, Review(corrected, accept_below=0.05, annotator="Ada, M.D.")))
    np.testing.assert_array_equal(read(dataset.label("new_1")), machine(1))
    np.testing.assert_array_equal(read(dataset.label("new_2")), read(corrected / "new_2.nii.gz"))
    assert dataset.image("new_2").read_bytes() == (images / "new_2_0000.nii.gz").read_bytes()
    assert dataset.cases() == ["expert_01", "expert_02", "new_1", "new_2"]
    assert json.loads(dataset.json_file.read_text())["numTraining"] == 4
    record = read_record(dataset.folder)
    assert list(record) == ["new_1", "new_2"]
    assert record["new_1"][1:7] == ("machine", "round_a", done.id, "/m.pt", "abc", "")
    assert record["new_1"][8:] == ("0.0400", "1.0000", voxels_sha256(machine(1)))
    assert record["new_2"].label_sha256 == voxels_sha256(read(dataset.label("new_2")))
    # the organ is the same; of the lesion, 4 voxels are common to 4 and 5
    assert record["new_2"].annotator == "Ada, M.D." and record["new_2"].disagreement == "0.3000"
    assert float(record["new_2"].dice) == pytest.approx((1 + 2 * 4 / 9) / 2, abs=5e-5)


def test_a_case_is_taken_again_only_where_more_was_looked_at(dataset, done, corrected):
    take(dataset, choose(dataset, done, Review(accept_below=0.5)))
    assert choose(dataset, done, Review(accept_below=0.5)) == []
    later = choose(dataset, done, Review(corrected, confirmed=["new_1"], accept_below=0.5))
    assert sources(later) == {"new_1": "confirmed", "new_2": "corrected"}
    take(dataset, later)
    assert choose(dataset, done, Review(corrected, ["new_1", "new_2"], 0.5)) == []
    assert choose(dataset, done, Review(None, ["new_1", "new_2"], 0.5)) == []


def test_what_was_corrected_is_replaced_only_when_that_is_said(dataset, done, corrected):
    take(dataset, choose(dataset, done, Review(corrected, annotator="Ada")))
    first = dataset.label("new_2").read_bytes()
    write(corrected / "new_2.nii.gz", np.zeros(SHAPE, dtype=np.uint8))
    with pytest.raises(UserError, match="new_2.nii.gz was corrected by Ada on .*: add --replace"):
        choose(dataset, done, Review(corrected))
    assert dataset.label("new_2").read_bytes() == first
    take(dataset, choose(dataset, done, Review(corrected, replace=True)))
    assert not read(dataset.label("new_2")).any() and list(read_record(dataset.folder)) == ["new_2"]


@pytest.mark.parametrize("replace", [False, True])
def test_what_was_edited_in_the_dataset_is_not_lost(dataset, done, corrected, replace):
    take(dataset, choose(dataset, done, Review(confirmed=["new_2"])))
    edited = machine(2)
    edited[6, :3, :3] = 1
    write(dataset.label("new_2"), edited)
    before = files(dataset.folder)
    with pytest.raises(UserError, match="labelsTr/new_2.nii.gz is not the label that annotations.csv records"):
        take(dataset, choose(dataset, done, Review(corrected, replace=replace)))
    assert files(dataset.folder) == before
    # what the sentence says
    dataset.label("new_2").rename(corrected / "new_2.nii.gz")
    take(dataset, choose(dataset, done, Review(corrected)))
    np.testing.assert_array_equal(read(dataset.label("new_2")), edited)
    assert read_record(dataset.folder)["new_2"].source == "corrected"


class Killed(BaseException):
    pass


def killed():
    raise Killed


def killed_after(moves: int) -> SimpleNamespace:
    """In place of the module's ``os``: lets so many files be moved."""
    left = iter(range(moves))
    return SimpleNamespace(replace=lambda *files: os.replace(*files) if next(left, None) is not None else killed())


def test_a_mask_that_is_changed_meanwhile_is_not_taken(dataset, done, corrected):
    chosen = choose(dataset, done, Review(corrected))
    before = files(dataset.folder)
    mask = machine(2)
    mask[0, 0, :2] = 3
    write(corrected / "new_2.nii.gz", mask)
    with pytest.raises(UserError, match="new_2.nii.gz was changed while the others were read: run the command again"):
        take(dataset, chosen)
    assert files(dataset.folder) == before


def test_killed_before_the_record_nothing_is_there(dataset, done, corrected, monkeypatch):
    before = files(dataset.folder)
    chosen = choose(dataset, done, Review(corrected, accept_below=0.05))
    with monkeypatch.context() as patch:
        patch.setattr(taking, "write_record", lambda *_: killed())
        patch.setattr(taking, "_clean", lambda dataset: None)  # nor can what is killed clean up
        with pytest.raises(Killed):
            take(dataset, chosen)
    assert dataset.cases() == ["expert_01", "expert_02"] and not dataset.has("new_1")
    left = set(files(dataset.folder)) - set(before)
    assert len(left) == 4 and {path.parent.name for path in left} == {".taking"}
    take(dataset, chosen)
    assert not list(dataset.folder.rglob(".taking"))


def test_killed_after_the_record_it_is_finished(dataset, done, corrected, monkeypatch):
    review = Review(corrected, accept_below=0.05)
    for moves in (0, 1, 1):  # nothing, then the image of the first case, then its label
        with monkeypatch.context() as patch:
            patch.setattr(taking, "os", killed_after(moves))
            with pytest.raises(Killed):
                take(dataset, choose(dataset, done, review))
        assert list(read_record(dataset.folder)) == ["new_1", "new_2"]
    assert not dataset.has("new_2")
    with pytest.raises(UserError, match="new_2 is missing, which is recorded as corrected"):
        choose(dataset, done, Review(accept_below=0.5))
    take(dataset, choose(dataset, done, review))
    assert sources(choose(dataset, done, review)) == {} and dataset.cases()[2:] == ["new_1", "new_2"]
    np.testing.assert_array_equal(read(dataset.label("new_2")), read(corrected / "new_2.nii.gz"))


@pytest.mark.parametrize("before", [False, True])
def test_a_full_disk_changes_nothing(dataset, done, corrected, before):
    """The limits: nothing can be written, or only small labels, or all but the record."""
    review = Review(corrected, accept_below=0.05, replace=True)
    if before:
        take(dataset, choose(dataset, done, Review(confirmed=["new_1", "new_2"])))
    chosen, there = choose(dataset, done, review), files(dataset.folder)
    for limit in (0, 100, 400):
        with file_size_limit(limit), pytest.raises(UserError, match="cannot be written: File too large"):
            take(dataset, chosen)
        assert files(dataset.folder) == there
        assert [taken.case for taken in choose(dataset, done, review)] == [taken.case for taken in chosen]
    take(dataset, chosen)
    assert list(read_record(dataset.folder)) == ["new_1", "new_2"]


@pytest.mark.parametrize("at", [0, 1, 2, 3])
def test_a_file_that_cannot_be_put_in_place_puts_all_back(dataset, done, corrected, monkeypatch, at):
    take(dataset, choose(dataset, done, Review(confirmed=["new_1"])))
    write(corrected / "new_1.nii.gz", machine(5))
    chosen, there = choose(dataset, done, Review(corrected)), files(dataset.folder)
    left = iter(range(at))

    def replace(*paths):
        if next(left, None) is None and ".before" not in str(paths[0]):
            raise OSError(30, "Read-only file system")
        os.replace(*paths)

    moves = len([taken for taken in chosen for _ in ((1,) if dataset.image(taken.case).exists() else (1, 2))])
    with monkeypatch.context() as patch:
        patch.setattr(taking, "os", SimpleNamespace(replace=replace))
        if at < moves:
            with pytest.raises(OSError, match="Read-only"):
                take(dataset, chosen)
            assert files(dataset.folder) == there
        else:
            take(dataset, chosen)
            assert files(dataset.folder) != there


def test_no_file_is_put_beside_its_twin(dataset, done, corrected):
    (dataset.folder / "labelsTr" / "new_2.nii").touch()
    with pytest.raises(UserError, match="labelsTr/new_2.nii.gz would lie beside new_2.nii"):
        take(dataset, choose(dataset, done, Review(corrected)))


def test_one_at_a_time(dataset):
    with (
        locked(dataset.folder),
        pytest.raises(UserError, match="another `sam2_3dmed annotate` is changing"),
        locked(dataset.folder),
    ):
        pass


def test_labels_without_a_prompt_are_not_taken_as_absent(dataset, done, corrected):
    for name, case in done.cases.items():
        done.cases[name] = replace(case, objects=case.objects[:1])
    for review in (Review(accept_below=0.05), Review(confirmed=["new_1"])):
        with pytest.raises(UserError, match="new_1 had no prompt for lesion, .* --partial"):
            choose(dataset, done, review)
        assert list(sources(choose(dataset, done, replace(review, partial=True)))) == ["new_1"]
    assert sources(choose(dataset, done, Review(corrected))) == {"new_2": "corrected"}


def other_labels(corrected, dataset, done):
    write(corrected / "new_1.nii.gz", np.full(SHAPE, 2, dtype=np.uint8))
    return Review(corrected)


def half_labels(corrected, dataset, done):
    write(corrected / "new_1.nii.gz", np.full(SHAPE, 0.5, dtype=np.float32))
    return Review(corrected)


def other_size(corrected, dataset, done):
    write(corrected / "new_1.nii.gz", np.zeros((7, 40, 47), dtype=np.uint8))
    return Review(corrected)


def other_place(corrected, dataset, done):
    write(corrected / "new_1.nii.gz", machine(1), origin=4.0)
    return Review(corrected)


def of_no_case(corrected, dataset, done):
    write(corrected / "new_9.nii.gz", machine(1))
    return Review(corrected)


def in_another_format(corrected, dataset, done):
    write(corrected / "new_1.mha", machine(1))
    return Review(corrected)


def confirmed_of_no_case(corrected, dataset, done):
    return Review(corrected, ["new_9"])


def without_image(corrected, dataset, done):
    done.cases["new_1"] = replace(done.cases["new_1"], image="/nowhere/new_1_0000.nii.gz")
    return Review(corrected)


def without_mask(corrected, dataset, done):
    done.mask("new_1").unlink()
    return Review(corrected)


def changed_in_place(corrected, dataset, done):
    write(done.mask("new_1"), machine(5))
    return Review(corrected)


def another_image(corrected, dataset, done):
    write(Path(done.cases["new_1"].image), machine(1))
    return Review(corrected)


def machine_mask_elsewhere(corrected, dataset, done):
    mask = write(done.mask("new_1"), machine(1), origin=4.0)
    done.cases["new_1"] = replace(done.cases["new_1"], mask_sha256=sha256_of(mask))
    return Review()


def another_format(corrected, dataset, done):
    done.made_by = {**MADE_BY, "file_ending": ".mha"}
    return Review()


def of_an_expert(corrected, dataset, done):
    write(dataset.image("new_2"), machine(1))
    write(dataset.label("new_2"), machine(1))
    return Review(corrected)


def no_folder(corrected, dataset, done):
    return Review(corrected / "none")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (other_labels, "has voxels of 2, but the labels of Dataset301_Tiny are 0, 1, 3, 4"),
        (half_labels, r"holds values between whole numbers \(0.5\)"),
        (other_size, "has 7 x 40 x 47 voxels, but"),
        (other_place, "lie 4.00 mm apart"),
        (of_no_case, "new_9.nii.gz is no mask of the round round_a"),
        (in_another_format, "new_1.mha is no mask of the round"),
        (confirmed_of_no_case, "has no case new_9, which --confirmed names"),
        (without_image, "there is no file or folder /nowhere/new_1_0000.nii.gz"),
        (without_mask, "new_1.nii.gz is missing"),
        (changed_in_place, "is not the mask that the model wrote: put corrected masks into another folder"),
        (another_image, "new_1_0000.nii.gz is not the image that was ranked"),
        (machine_mask_elsewhere, "lie 4.00 mm apart"),
        (another_format, "is a round of .mha, but the file_ending of -d is .nii.gz"),
        (of_an_expert, "has a training case new_2 that is not from the round round_a"),
        (no_folder, "must be a folder of masks"),
    ],
)
def test_nothing_is_written_where_anything_is_wrong(dataset, done, corrected, spoil, message):
    review = replace(spoil(corrected, dataset, done), accept_below=0.5)
    before = files(dataset.folder)
    with pytest.raises(UserError, match=message):
        take(dataset, choose(dataset, done, review))
    assert files(dataset.folder) == before


def test_a_round_of_another_dataset(dataset, done):
    done.made_by = {**MADE_BY, "dataset": "Dataset007_Pancreas"}
    with pytest.raises(UserError, match="is a round of Dataset007_Pancreas"):
        choose(dataset, done, Review())


def test_another_round_does_not_replace_what_one_has_given(dataset, done):
    take(dataset, choose(dataset, done, Review(confirmed=["new_1"])))
    done.id = Round(done.folder, MADE_BY).id  # in a folder of the same name
    with pytest.raises(UserError, match="new_1 that is not from the round"):
        choose(dataset, done, Review(confirmed=["new_1"]))


def test_dice_over_labels():
    first, second = np.array([0, 1, 1, 1, 3, 0]), np.array([0, 1, 1, 0, 0, 0])
    assert mean_dice(first, second) == pytest.approx((2 * 2 / 5 + 0) / 2)
    assert mean_dice(first * 0, first * 0) == 1.0


def test_labels_that_experts_may_use_are_taken_too(dataset, done, corrected):
    mask = machine(1)
    mask[0] = 4  # the ignore label
    write(corrected / "new_1.nii.gz", mask)
    assert sources(choose(dataset, done, Review(corrected)))["new_1"] == "corrected"
