"""CSV files as spreadsheets save them, with any separator, encoding and spelling of the header.

Not read with pandas, whose rows have no line numbers for error messages.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from nnunetv2_sam2_3dmed.errors import UserError

SEPARATORS = (",", ";", "\t", "|")
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark is its beginning
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Attributes:
        number: line number in the file, from 1; the last one of a row on several lines.
        values: values by known column; empty if the row has none.
        others: values by other column, as its name is spelt; that of the last of several with one name.
        ends_early: the row has fewer values than the header has columns.
    """

    number: int
    values: dict[str, str]
    others: dict[str, str]
    ends_early: bool

    def __getitem__(self, column: str) -> str:
        return self.values[column]


def read_csv(file: Path, required: Sequence[str], optional: Sequence[str] = (), allow_others: bool = True) -> list[Row]:
    """Return the rows of a table that are not empty.

    Column names are matched without case and surrounding spaces, in any order. The separator is the one with which the
    header has most of the known columns. Other columns, such as a comment, are ignored, unless their name resembles
    that of a missing known column.

    Args:
        file: the file.
        required: columns that must exist.
        optional: columns that may exist.
        allow_others: accept other columns; False for a file that is written again without them.

    Raises:
        UserError: the file is missing or no text; the header lacks a column, has a known one twice, or one that seems
            to be misspelt; or a row has more values than the header has columns.
    """
    known = (*required, *optional)
    text = _text(file)
    first, _, rest = text.partition("\n")
    skipped = 0
    if first.strip().lower().startswith("sep=") and len(first.strip()) <= len("sep=;"):  # written by Excel
        text, skipped = rest, 1
    separator = _separator(text, known)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, skipinitialspace=True, strict=True)
    try:
        lines = [(reader.line_num + skipped, [value.strip() for value in line]) for line in reader]
    except csv.Error as error:
        raise UserError(
            f"line {reader.line_num + skipped} of {file} cannot be read as CSV ({error}): correct it."
        ) from error
    filled = [(number, line) for number, line in lines if any(line)]
    spelt = list(filled[0][1]) if filled else []
    while spelt and not spelt[-1]:
        spelt.pop()
    header = [name.lower() for name in spelt]
    _check_header(file, header, required, known, allow_others)
    rows = []
    for number, line in filled[1:]:
        if any(line[len(header) :]):
            raise UserError(
                f"line {number} of {file} has {len(line)} values, but there are {len(header)} columns: put a value "
                f"that contains {separator!r} into double quotes."
            )
        cells = line + [""] * (len(header) - len(line))
        values = dict(zip(header, cells))
        others = {name: cell for name, cell in zip(spelt, cells) if name.lower() not in known}
        rows.append(Row(number, {name: values.get(name, "") for name in known}, others, len(line) < len(header)))
    return rows


def _text(file: Path) -> str:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read as CSV ({error.strerror}): give a table.") from error
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    if encoding == "utf-8" and b"\0" in content[:4]:  # UTF-16 of ASCII letters, without a mark
        encoding = "utf-16-be" if content[:1] == b"\0" else "utf-16-le"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        text = content.decode("latin-1")  # saved by older spreadsheets; decodes any bytes
    if content.startswith(b"PK") or "\0" in text:
        raise UserError(f"{file} cannot be read as CSV, because it is no text: save the spreadsheet as CSV.")
    return text


def _separator(text: str, known: Sequence[str]) -> str:
    header = next((line for line in text.splitlines() if line.strip()), "")

    def found(separator: str) -> int:
        try:
            names = next(csv.reader([header], delimiter=separator, skipinitialspace=True), [])
        except csv.Error:  # a field longer than the reader allows; refused later
            return 0
        return len({name.strip().lower() for name in names} & set(known))

    return max(SEPARATORS, key=found)


def _check_header(
    file: Path, header: Sequence[str], required: Sequence[str], known: Sequence[str], allow_others: bool
) -> None:
    """Refuse a header with missing, repeated or misspelt columns.

    Raises:
        UserError: see :func:`read_csv`.
    """
    optional = [name for name in known if name not in required]
    can = f"it needs {', '.join(required)}" + (f", and can have {', '.join(optional)}." if optional else ".")
    absent = [name for name in known if name not in header]
    for name in header:
        if name in known:
            if header.count(name) > 1:
                raise UserError(f"{file} has the column {name!r} twice: take one out.")
            continue
        near = get_close_matches(name, absent, n=1)
        if near:
            raise UserError(f"{file} has the column {name!r}, which is not known: did you mean {near[0]}?")
        if not allow_others:
            raise UserError(f"{file} has the column {name!r}, which is not known: take it out; {can}")
    missing = [name for name in required if name in absent]
    if missing:
        raise UserError(f"{file} lacks the column {', '.join(missing)}: {can}")
