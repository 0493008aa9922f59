"""The same table in all the ways in which spreadsheets save it."""

from __future__ import annotations

import pytest

from nnunetv2_sam2_3dmed.csv_files import read_csv
from nnunetv2_sam2_3dmed.errors import UserError

REQUIRED, OPTIONAL = ("image", "where"), ("object",)
ROWS = [{"image": "Größe.nii", "where": "3,20,20", "object": "2"}, {"image": "b.nii", "where": "1,2,3", "object": ""}]


def text(separator: str = ",", end: str = "\n") -> str:
    lines = [["image", "where", "object"], ["Größe.nii", '"3,20,20"', "2"], ["b.nii", '"1,2,3"', ""]]
    return "".join(separator.join(line) + end for line in lines)


def rows(file):
    return [row.values for row in read_csv(file, REQUIRED, OPTIONAL)]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1"])
def test_separators_line_ends_and_encodings(tmp_path, separator, end, encoding):
    file = tmp_path / "a.csv"
    file.write_bytes(text(separator, end).encode(encoding))
    assert rows(file) == ROWS


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("image,where,object", " Image , WHERE ,Object"),
        lambda t: t.replace("image,where,object", '"image","where","object"'),
        lambda t: t.replace("\n", ",,\n"),  # trailing empty columns
        lambda t: t + ",,\n\n\n,,,\n",  # and lines
        lambda t: "\n\n" + t,
        lambda t: "sep=,\n" + t,
        lambda t: t.replace(',"', ', "'),  # spaces after the separator
    ],
)
def test_spellings(tmp_path, change):
    file = tmp_path / "a.csv"
    file.write_text(change(text()), encoding="utf-8")
    assert rows(file) == ROWS


def test_lines_are_counted_as_editors_count_them(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text('sep=,\nimage,where\n\na,1\n"b\nc",2\n', encoding="utf-8")
    assert [(row.number, row["image"]) for row in read_csv(file, REQUIRED)] == [(4, "a"), (6, "b\nc")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "lacks the column image, where: it needs image, where, and can have object"),
        (b"image,object\na,1\n", "lacks the column where"),
        (b"imgae,where\na,1\n", "has the column 'imgae', which is not known: did you mean image?"),
        (b"image,where,objects\na,1,x\n", "has the column 'objects', which is not known: did you mean object?"),
        (b"image,,where2\na,1,x\n", "has the column 'where2', which is not known: did you mean where?"),
        (b"x" * 200_000, "line 1 of .* cannot be read as CSV .field larger"),
        (b"image,where,Where\na,1,2\n", "has the column 'where' twice"),
        (b"image,where\na,3,20,20\n", "line 2 of .* has 4 values, but there are 2 columns: put a value that .* ','"),
        (b'image,where\na,"3,20\n', "line 2 of .* cannot be read as CSV"),
        (b"PK\x03\x04\x14\x00\x06\x00", "is no text: save the spreadsheet as CSV"),
        (b"image,where\n\x00\x00\x00", "is no text"),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    file = tmp_path / "a.csv"
    file.write_bytes(content)
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        rows(file)


def test_what_is_not_there(tmp_path):
    for file in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(UserError, match="cannot be read as CSV"):
            rows(file)


def test_columns_that_resemble_none_that_is_missing_are_ignored(tmp_path):
    file = tmp_path / "a.csv"
    file.write_text("patient;image;comment;where;;age;comment\nP1;a;x;1;y;60;z\n", encoding="utf-8")
    assert rows(file) == [{"image": "a", "where": "1", "object": ""}]
    with pytest.raises(UserError, match="has the column 'patient', which is not known: take it out; it needs image"):
        read_csv(file, REQUIRED, OPTIONAL, allow_others=False)
