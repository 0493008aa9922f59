"""Table and plot of annotation times, from a table by hand."""

import csv

import pytest

from nnunetv2_sam2_3dmed.annotation.times import FILE
from nnunetv2_sam2_3dmed.annotation.times_report import time_table, times_of, write_times
from nnunetv2_sam2_3dmed.commands.main import main
from nnunetv2_sam2_3dmed.errors import UserError

TIMES = """case,object,stage,slices,machine_seconds,person_seconds
a,1,prompt,,,5
a,1,outline,1,2,20
a,1,volume,4,3,35
b,1,outline,1,2,10
b,1,volume,6,3,30
b,2,outline,1,2,0
b,2,volume,5,3,
c,1,manual,20,,300
d,1,manual,,,500
"""


@pytest.fixture
def made(tmp_path):
    (tmp_path / "round_1").mkdir()
    (tmp_path / "round_1" / FILE).write_text(TIMES)
    return tmp_path / "round_1"


def test_a_round(made):
    by_hand, round_1 = times_of(made)
    assert by_hand.manual and by_hand.per_lesion.mean == 400 and by_hand.per_lesion.n == 2
    assert by_hand.per_slice == 300 / 20  # nobody wrote on how many slices the other one is
    # a took 60 s, b 40 s; the other object of b was not timed in its volume
    assert (round_1.per_lesion.mean, round_1.per_lesion.median, round_1.per_lesion.n) == (50, 50, 2)
    assert (round_1.unrevised, round_1.erased, round_1.untimed) == (1, 0, 0)
    assert round_1.per_slice == pytest.approx(100 / 10)
    assert round_1.stages == {"prompt": 5, "outline": 15, "volume": 32.5}
    assert round_1.machine.mean == 5 and round_1.machine.n == 3


def test_only_revised_volumes_count_and_the_note_says_what_is_left_out(tmp_path):
    # a took 30 + 60 s, b 10 + 20 s: 60 s each; the others would bring the mean down to 220 / 8 = 27.5
    (tmp_path / FILE).write_text(
        "case,object,stage,slices,machine_seconds,person_seconds,person_voxels\n"
        "a,1,outline,1,2,30,50\n"
        "a,1,volume,4,4,60,200\n"
        "b,1,outline,1,2,10,50\n"
        "b,1,volume,4,,20,\n"  # by hand: nobody wrote how large it is
        "b,3,volume,0,4,25,0\n"  # erased, after the model had made a volume
        "c,1,outline,1,2,40,50\n"  # not ranked yet
        "d,1,outline,1,2,5,0\n"  # no object in this image
        "e,1,outline,1,2,6,0\n"  # erased in the first stage, and chosen for a moment in the second
        "e,1,volume,,,1,0\n"
        "f,1,outline,1,2,8,50\n"
        "f,1,volume,4,4,,\n"  # ranked, not revised
        "g,1,outline,1,2,,\n"  # without a clock
        "g,1,volume,4,6,15,100\n"
        "h,1,outline,1,2,7,0\n"  # erased there, and drawn again
    )
    (one,) = times_of(tmp_path)
    assert (one.per_lesion.mean, one.per_lesion.n) == (60, 2)
    assert (one.unrevised, one.erased, one.untimed, one.left_out) == (2, 4, 1, 7)
    assert one.stages["outline"] == 20 and one.stages["volume"] == 40
    # of a, of the erased one of b, of f and of g
    assert (one.machine.mean, one.machine.n) == ((6 + 4 + 6 + 8) / 4, 4)
    note = time_table([one, one]).note
    assert "4 objects whose volume was not revised yet, or not timed, are left out" in note
    assert "8 objects that a person erased, or did not find, are left out" in note
    assert "2 objects with another stage that was not timed are left out" in note
    assert "1 object with another stage that was not timed is left out" in time_table([one]).note
    with (tmp_path / FILE).open("a") as file:
        file.write("h,1,volume,4,4,3,90\n")
    (one,) = times_of(tmp_path)
    assert (one.per_lesion.mean, one.per_lesion.n, one.erased) == ((90 + 30 + 10) / 3, 3, 3)


def test_the_table_marks_what_is_published(made):
    rows = [[cell.text for cell in row] for row in time_table(times_of(made)).rows]
    assert rows[0][:6] == ["by hand", "round_1", "2", "0", "400.0", "400.0 (350.0 to 450.0)"]
    assert rows[1] == [
        *("with the model", "round_1", "2", "1", "50.0", "50.0 (45.0 to 55.0)", "10.00", "5.0", "15.0", "32.5", "5.00")
    ]
    published = {(row[0], row[1]): row[4:7] for row in rows[2:]}
    # MedSAM2, Results: efficient 3D lesion annotation, and high-throughput video annotation
    assert published["published: CT lesions (DeepLesion)", "manual"] == ["525.9", "–", "–"]
    assert published["published: liver MRI lesions (LLD-MMRI2023)", "3"] == ["65.2", "–", "–"]
    assert published["published: echocardiography (RVENet)", "2"] == ["–", "–", "23.1"]
    assert len(published) == len(rows) - 2 == 12


def test_nothing_timed_yet(made, tmp_path):
    untimed = "\n".join(",".join([*line.split(",")[:5], ""]) for line in TIMES.splitlines()[1:7])
    (made / FILE).write_text(f"{TIMES.splitlines()[0]}\n{untimed}\n")
    (only,) = times_of(made)
    text = write_times([only], tmp_path / "out")
    assert only.unrevised == only.left_out == 3 and "| with the model" in text and "n/a" in text


def test_the_command(made, tmp_path, capsys):
    assert main(["annotate", "times", "--rounds", str(made), "-o", str(tmp_path / "out")]) == 0
    printed = capsys.readouterr().out
    assert printed == (tmp_path / "out" / "annotation_times.md").read_text("utf-8")
    with (tmp_path / "out" / "annotation_times.csv").open(encoding="utf-8") as file:
        assert [row[0] for row in csv.reader(file)][:3] == ["annotation", "by hand", "with the model"]
    assert (tmp_path / "out" / "annotation_times.png").read_bytes().startswith(b"\x89PNG")
    assert main(["annotate", "times", "--rounds", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "has no times.csv: give the folders of rounds" in capsys.readouterr().err


def test_no_times(tmp_path):
    with pytest.raises(UserError, match="has no times.csv"):
        times_of(tmp_path)
