"""``sam2_3dmed segment``, run as the command line does, with a checkpoint of random weights."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch

from nnunetv2_sam2_3dmed.commands import segment
from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError
from nnunetv2_sam2_3dmed.images.volumes import Volume, read_volume
from nnunetv2_sam2_3dmed.interactive import InteractiveSession, load_model
from nnunetv2_sam2_3dmed.interactive.prompt_lines import KINDS
from tests.faults import file_size_limit
from tests.images.dicom_files import write_series
from tests.interactive.reference import SIZE, TINY, phantom, random_weights


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / f"{TINY}.pt"
    torch.save({"model": random_weights()}, path)
    return path


@pytest.fixture(scope="module")
def network(model):
    return load_model(model, SIZE)


@pytest.fixture
def run(model, network, tmp_path, monkeypatch):
    """Run the command in ``tmp_path``; the checkpoint is loaded once for all tests."""

    def load(path, size):
        assert (str(path), size) == (str(model), SIZE)
        return network

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.session.load_model", load)
    common = ["--model", str(model), "--image-size", str(SIZE), "-device", "cpu", "--precision", "float32"]
    return lambda *words: main(["segment", *map(str, words), *common])


@pytest.fixture
def image(tmp_path):
    made = sitk.GetImageFromArray(phantom())
    made.SetSpacing((0.5, 0.8, 3.0))
    made.SetDirection((-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0))
    sitk.WriteImage(made, str(tmp_path / "a.nii.gz"))
    return made


def expected(network, path, *calls, slices=None):
    session = InteractiveSession(network, "cpu", "float32")
    session.set_image(path)
    for call in calls:
        call(session)
    session.propagate(slices=slices)
    return session.labels()


def read(path):
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_there_is_an_option_for_every_kind_of_prompt():
    assert segment._KINDS == KINDS


def test_one_image(run, network, image, tmp_path, capsys):
    assert run("a.nii.gz", "-o", "out/mask.nii.gz", "--box", "3,10,12:3,30,33", "--negative-point", "3,15,15") == 0
    labels = read(tmp_path / "out" / "mask.nii.gz")
    np.testing.assert_array_equal(
        labels,
        expected(
            network,
            tmp_path / "a.nii.gz",
            lambda s: s.add_points([(3, 15, 15)], 0),
            lambda s: s.add_box((3, 10, 12), (3, 30, 33)),
        ),
    )
    assert labels.any()
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["mask.nii.gz", "mask.png"]
    written = sitk.ReadImage(str(tmp_path / "out" / "mask.nii.gz"))
    assert written.GetDirection() == image.GetDirection()
    said = capsys.readouterr().out
    assert "7 x 40 x 48 voxels of 3 x 0.8 x 0.5 mm (z, y, x)" in said
    assert f"1 objects, {labels.sum() * 0.5 * 0.8 * 3 / 1000:.1f} ml" in said


def test_millimetres_mean_the_same_place(run, image, tmp_path):
    one = ("--no-preview", "--slices", 3, 3)
    assert run("a.nii.gz", "-o", "voxels.mha", "--box", "3,10,12:3,30,33", *one) == 0
    # both axes are turned, and the origin is 0: x = -0.5 * 12, y = -0.8 * 10, z = 3 * 3
    assert run("a.nii.gz", "-o", "mm.mha", "--unit", "mm", "--box=-6,-8,9:-16.5,-24,9", *one) == 0
    assert read(tmp_path / "voxels.mha").any()
    np.testing.assert_array_equal(read(tmp_path / "voxels.mha"), read(tmp_path / "mm.mha"))
    assert not list(tmp_path.glob("*.png"))


def test_a_dicom_series_to_a_dicom_seg(run, network, tmp_path):
    hd = pytest.importorskip("highdicom")
    write_series(tmp_path / "ct", (phantom() - 400).astype(np.int16))
    assert run("ct", "-o", "seg.dcm", "--box", "3,10,12:3,30,33", "--slices", 3, 4) == 0
    labels = expected(network, tmp_path / "ct", lambda s: s.add_box((3, 10, 12), (3, 30, 33)), slices=(3, 4))
    segmentation = hd.seg.segread(tmp_path / "seg.dcm")
    assert int(segmentation.pixel_array.sum()) == int(labels.sum()) > 0


@pytest.mark.parametrize("keyword", ["SeriesInstanceUID", None], ids=["no reference", "no highdicom"])
def test_a_dicom_seg_that_could_not_be_written_is_refused_before_the_model_is_loaded(
    run, tmp_path, monkeypatch, capsys, keyword
):
    def change(data, z):
        if keyword is not None:
            delattr(data, keyword)

    write_series(tmp_path / "ct", (phantom() - 400).astype(np.int16), change=change)
    if keyword is None:
        monkeypatch.setitem(sys.modules, "highdicom", None)
    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.InteractiveSession", None)
    assert run("ct", "-o", "seg.dcm", "--box", "3,10,12:3,30,33") == 2
    assert ("no valid Series Instance UID" if keyword else "needs highdicom") in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ["ct"]


def test_a_table_s_objects_end_where_its_lines_say(run, network, image, tmp_path):
    (tmp_path / "prompts.csv").write_text(
        'image,prompt,where,object,first,last\na.nii.gz,box,"3,10,12:3,30,33",1,2,4\na.nii.gz,box,"3,5,8:3,20,40",2,,\n'
    )
    assert run("--batch", "prompts.csv", "-o", "out", "--no-preview", "--slices", 1, 5) == 0
    labels = read(tmp_path / "out" / "a.nii.gz")
    found = [np.flatnonzero((labels == value).any(axis=(1, 2))).tolist() for value in (1, 2)]
    assert found == [[2, 3, 4], [1, 2, 3, 4, 5]]
    assert run("a.nii.gz", "-o", "b.nii.gz", "--box", "3,10,12:3,30,33", "--slices", 3, 4) == 0
    assert np.flatnonzero(read(tmp_path / "b.nii.gz").any(axis=(1, 2))).tolist() == [3, 4]


def test_a_slice_of_the_image_is_not_replaced(run, tmp_path, capsys):
    pytest.importorskip("highdicom")
    write_series(tmp_path / "ct", (phantom() - 400).astype(np.int16))
    before = (tmp_path / "ct" / "IM0014.dcm").read_bytes()
    assert run("ct", "-o", "ct/IM0014.dcm", "--box", "3,10,12:3,30,33") == 2
    assert "IM0014.dcm is a DICOM file that the segmentation would replace" in capsys.readouterr().err
    assert (tmp_path / "ct" / "IM0014.dcm").read_bytes() == before


def test_what_a_series_lacks_is_told_of(run, tmp_path, capsys):
    pytest.importorskip("highdicom")

    def change(data, z):
        data.ImagerPixelSpacing = data.PixelSpacing
        del data.PixelSpacing, data.StudyInstanceUID, data.PatientID

    write_series(tmp_path / "ct", (phantom() - 400).astype(np.int16), change=change)
    assert run("ct", "-o", "seg.dcm", "--box", "3,10,12:3,30,33", "--no-preview", "--slices", 3, 3) == 0
    said = capsys.readouterr().err
    assert "warning: ct: the pixel spacing is that at the detector" in said
    assert (
        "warning: ct: the series has no Study Instance UID (0020,000D): the DICOM SEG gets a study of its own" in said
    )
    assert (tmp_path / "seg.dcm").is_file()


def test_a_table_of_images_goes_on_after_a_failure(run, network, image, tmp_path, capsys):
    (tmp_path / "prompts.csv").write_text(
        "image,prompt,where,object,output\n"
        'missing.nii.gz,point,"3,20,20",,\n'
        'a.nii.gz,box,"3,10,12:3,30,33",2,\n'
        'a.nii.gz,point,"5,20,20",7,\n'
    )
    assert run("--batch", "prompts.csv", "-o", "out") == 2
    captured = capsys.readouterr()
    assert "missing.nii.gz: there is no file or folder" in captured.err
    assert "1 of 2 images failed" in captured.err
    np.testing.assert_array_equal(
        read(tmp_path / "out" / "a.nii.gz"),
        expected(
            network,
            tmp_path / "a.nii.gz",
            lambda s: s.add_box((3, 10, 12), (3, 30, 33), object_id=2),
            lambda s: s.add_points([(5, 20, 20)], object_id=7),
        ),
    )


def test_whatever_a_case_raises_the_others_go_on(run, network, image, tmp_path, capsys, monkeypatch):
    """The second of three images fails in the middle of its propagation, with an object of its own."""
    for name in "bc":
        sitk.WriteImage(image, str(tmp_path / f"{name}.nii.gz"))
    (tmp_path / "prompts.csv").write_text(
        'image,prompt,where,object\na.nii.gz,box,"3,10,12:3,30,33",1\nb.nii.gz,box,"3,10,12:3,30,33",5\n'
        'c.nii.gz,box,"3,10,12:3,30,33",2\n'
    )
    propagate, left = InteractiveSession.propagate, []

    def failing(session, *args, **kwargs):
        if session.object_ids == [5]:
            raise IndexError("list index\nout of range")
        return propagate(session, *args, **kwargs)

    clear = InteractiveSession.clear

    def clearing(session):
        clear(session)
        left.append((session.object_ids, len(session._features), session._image))

    monkeypatch.setattr(InteractiveSession, "propagate", failing)
    monkeypatch.setattr(InteractiveSession, "clear", clearing)
    assert run("--batch", "prompts.csv", "-o", "out", "--no-preview", "--slices", 3, 3) == 2
    said = capsys.readouterr().err
    assert said.splitlines() == [
        "sam2_3dmed segment: b.nii.gz: IndexError: list index out of range (not foreseen; SAM2_3dMed_debug=1 in the "
        "environment shows where).",
        "sam2_3dmed segment: 1 of 3 images failed, for the reasons above: b.nii.gz.",
    ]
    assert left == [([], 0, None)]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == ["a.nii.gz", "c.nii.gz"]
    labels = expected(network, tmp_path / "a.nii.gz", lambda s: s.add_box((3, 10, 12), (3, 30, 33)), slices=(3, 3))
    np.testing.assert_array_equal(read(tmp_path / "out" / "a.nii.gz"), labels)
    np.testing.assert_array_equal(read(tmp_path / "out" / "c.nii.gz"), 2 * labels)
    monkeypatch.setenv("SAM2_3dMed_debug", "1")
    assert run("--batch", "prompts.csv", "-o", "out", "--no-preview", "--slices", 3, 3) == 2
    said = capsys.readouterr().err
    assert 'raise IndexError("list index' in said and "Traceback" in said


def test_two_diameters_as_two_options_are_refused(run, image, tmp_path, capsys):
    longest, across = "3,10,20:3,30,20", "3,20,14:3,20,24"
    assert run("a.nii.gz", "-o", "b.nii.gz", "--recist", longest, "--recist", across) == 2
    said = capsys.readouterr().err
    assert f"recist {across} is a second box of object 1 on slice 3 along axis 0" in said
    assert "both RECIST diameters as one prompt, the longest one first" in said
    assert not (tmp_path / "b.nii.gz").exists()
    # in a table, the other images go on
    sitk.WriteImage(image, str(tmp_path / "c.nii.gz"))
    (tmp_path / "prompts.csv").write_text(
        f'image,prompt,where\na.nii.gz,box,"3,10,12:3,30,33"\na.nii.gz,recist,"{longest}"\n'
        f'c.nii.gz,recist,"{longest}:{across}"\n'
    )
    assert run("--batch", "prompts.csv", "-o", "out", "--no-preview", "--slices", 3, 3) == 2
    said = capsys.readouterr().err
    assert f"a.nii.gz: recist {longest} is a second box of object 1 on slice 3" in said
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["c.nii.gz"]


class RecordingSession:
    """Session that records the arguments of the command and finds nothing."""

    given: dict[str, object] = {}
    window, object_ids, learned_axis, prompts, model = (0.0, 1.0), [1], 0, (), None

    def __init__(self, model, device, precision, image_size):
        self.given.update(model=model, device=device, precision=precision, image_size=image_size)

    def set_image(self, image, window):
        self.image = image if isinstance(image, Volume) else read_volume(image)
        self.given["window"] = window
        return self.image

    def add_box(self, corner, opposite, object_id, axis):
        self.given.update(box=(corner, opposite), axis=axis)

    def propagate(self, object_ids, slices, progress):
        self.given["slices"] = slices

    def labels(self):
        return np.zeros(self.image.shape, np.uint8)

    def save(self, path, labels):
        self.given["saved"] = path


@pytest.fixture
def recorded(tmp_path, image, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.InteractiveSession", RecordingSession)
    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.model.model_file", str)
    given = RecordingSession.given
    given.clear()
    monkeypatch.setattr(
        "nnunetv2_sam2_3dmed.interactive.preview.write_preview",
        lambda path, session, labels, axis: given.update(preview=(path.name, axis)),
    )
    return given


def test_every_option_reaches_the_session(recorded):
    words = "a.nii.gz -o b.nrrd --unit mm --box=-6,-8,9:-16.5,-8,15 --axis 1 --slices 2 5 --window 40 400"
    model = "--model some.pt --image-size 96 --precision bfloat16 -device cpu"
    assert main(["segment", *words.split(), *model.split()]) == 0
    corner, opposite = recorded.pop("box")
    # x = -0.5 * 12, y = -0.8 * 10, z = 3 * 3
    np.testing.assert_allclose([corner, opposite], [(3, 10, 12), (5, 10, 33)])
    assert recorded == {
        "model": "some.pt",
        "device": "cpu",
        "precision": "bfloat16",
        "image_size": 96,
        "window": (40, 400),
        "axis": 1,
        "slices": (2, 5),
        "saved": Path("b.nrrd"),
        "preview": ("b.png", 1),
    }


def test_a_table_s_files_have_the_format_that_is_asked_for_and_no_picture_that_is_not(recorded, tmp_path):
    (tmp_path / "prompts.csv").write_text('image,prompt,where\na.nii.gz,box,"3,10,12:3,30,33"\n')
    words = "--batch prompts.csv -o out --format .mha --no-preview --window lung -device cpu"
    assert main(["segment", *words.split()]) == 0
    assert recorded["saved"] == Path("out/a.mha") and "preview" not in recorded
    assert recorded["window"] == "lung" and recorded["slices"] is None and recorded["axis"] == 0


@pytest.mark.parametrize("output", ["file/mask.nii.gz", "folder.nii.gz", f"{'n' * 250}.nii.gz", "/proc/mask.nii.gz"])
def test_an_output_that_cannot_be_written_is_noticed_before_the_model_is_loaded(
    run, image, tmp_path, capsys, monkeypatch, output
):
    (tmp_path / "file").touch()
    (tmp_path / "folder.nii.gz").mkdir()

    def load(*args):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.session.load_model", load)
    assert run("a.nii.gz", "-o", output, "--box", "3,10,12:3,30,33") == 2
    assert f"the output {output} " in capsys.readouterr().err
    (tmp_path / "prompts.csv").write_text(f'image,prompt,where,output\na.nii.gz,box,"3,10,12:3,30,33",{output}\n')
    assert run("--batch", "prompts.csv", "-o", "out") == 2
    assert output.rpartition("/")[2] in capsys.readouterr().err
    assert run("--batch", "prompts.csv", "-o", "file") == 2
    assert "the output file cannot be written, since file is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a.nii.gz", "-o", "b.nii.gz"], "say where the object is"),
        (["-o", "b.nii.gz", "--point", "1,2,3"], "say which image"),
        (["a.nii.gz", "-o", "b.png", "--point", "1,2,3"], "must end in .nii.gz"),
        (["a.nii.gz", "-o", "a.nii.gz", "--point", "1,2,3"], "is the image itself"),
        (["a.nii.gz", "-o", "b.nii.gz", "--point", "1,2,300"], "lies outside the image"),
        (["a.nii.gz", "-o", "b.nii.gz", "--point", "1,2,3", "--window", "40", "wide"], "--window is 40 wide"),
        (["a.nii.gz", "-o", "b.nii.gz", "--point", "1,2,3", "--slices", "4", "6"], "goes from 4 to 6"),
        (["a.nii.gz", "-o", "b.dcm", "--box", "3,10,12:3,30,33"], "no DICOM series"),
        (["a.nii.gz", "-o", "out", "--batch", "p.csv"], "images and prompts come from the CSV"),
    ],
)
def test_mistakes_are_said_in_a_sentence(run, image, tmp_path, capsys, words, message):
    assert run(*words) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert {file.name for file in tmp_path.iterdir()} == {"a.nii.gz"}


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".nrrd", ".mha"])
def test_a_full_disk_leaves_the_older_result(run, image, tmp_path, capsys, ending):
    output = tmp_path / f"b{ending}"
    words = ["a.nii.gz", "-o", output.name, "--box", "3,10,12:3,30,33", "--no-preview", "--slices", 3, 3]
    assert run(*words) == 0
    older = output.read_bytes()
    with file_size_limit(len(older) // 2):
        assert run(*words) == 2
    assert f"b{ending} cannot be written: File too large." in capsys.readouterr().err
    assert output.read_bytes() == older
    assert {file.name for file in tmp_path.iterdir()} == {"a.nii.gz", output.name}


def test_outputs_that_would_be_taken_for_other_files(run, image, tmp_path, capsys):
    box = ("--box", "3,10,12:3,30,33")
    assert run("a.nii.gz", "-o", "a.nii", *box) == 2
    assert "a.nii would lie beside a.nii.gz" in capsys.readouterr().err
    (tmp_path / "prompts.csv").write_text(
        'image,prompt,where,output\na.nii.gz,point,"3,20,20",b.nii\nother.nrrd,point,"3,20,20",b.nii.gz\n'
    )
    assert run("--batch", "prompts.csv", "-o", "out") == 2
    assert "b.nii.gz: name their outputs" in capsys.readouterr().err and not (tmp_path / "b.nii").exists()
    session = InteractiveSession.__new__(InteractiveSession)
    with pytest.raises(UserError, match="a.nii would lie beside a.nii.gz"):
        session.save(tmp_path / "a.nii", np.zeros((1, 1, 1), np.uint8))


def test_an_output_that_cannot_be_written_is_noticed_before_the_work(run, image, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nnunetv2_sam2_3dmed.interactive.InteractiveSession", None)
    box = ("--box", "3,10,12:3,30,33")
    for output, why in (("a.nii.gz/b.nii.gz", "is not a folder"), (f"{'b' * 300}.nii.gz", "name is too long")):
        assert run("a.nii.gz", "-o", output, *box) == 2
        assert why in capsys.readouterr().err
    (tmp_path / "c.nii.gz").mkdir()
    assert run("a.nii.gz", "-o", "c.nii.gz", *box) == 2
    assert "the output c.nii.gz is a folder" in capsys.readouterr().err
