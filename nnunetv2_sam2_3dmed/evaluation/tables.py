"""Tables of text, their numbers formatted in one place, and their writers: Markdown, LaTeX (booktabs) and HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

NOTHING = "n/a"
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "\N{NO-BREAK SPACE}": "~",
        **{character: f"\\{character}" for character in "&%$#_{}"},
    }
)


def number(value: float, digits: int, sign: bool = False) -> str:
    """``value``, or :data:`NOTHING` for NaN."""
    return NOTHING if math.isnan(value) else f"{value:{'+' if sign else ''}.{digits}f}"


def spread(std: float, digits: int) -> str:
    """A standard deviation behind a mean; empty for NaN."""
    return "" if math.isnan(std) else f" ± {std:.{digits}f}"


def interval(low: float, high: float, digits: int, sign: bool = False) -> str:
    """A confidence interval in brackets; empty for NaN."""
    return "" if math.isnan(low) else f"[{number(low, digits, sign)}, {number(high, digits, sign)}]"


def p_value(p: float | None, n: int) -> str:
    """A p-value; without one, the number of cases that were too few."""
    if p is None:
        return f"{NOTHING} (n={n})"
    return "<0.0001" if p < 1e-4 else f"{p:.4f}"


def without_nan(content: Any) -> Any:
    """``content`` with every NaN, which JSON does not know, replaced by None."""
    if isinstance(content, Mapping):
        return {key: without_nan(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [without_nan(value) for value in content]
    return None if isinstance(content, float) and math.isnan(content) else content


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Attributes:
        text: the main figure or words.
        spread: printed directly behind the text, such as " ± 0.02".
        detail: further figures, which LaTeX leaves out and HTML prints in small type.
        best: the best figure of its group; bold in LaTeX and HTML.
        is_method: the text is the name of a method.
    """

    text: str
    spread: str = ""
    detail: str = ""
    best: bool = False
    is_method: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        title: of the table; may be empty.
        columns: their titles.
        rows: of cells.
        note: how to read the table; may be empty.
        headings: number of first columns that are the heading of a row.
        groups: number of first columns whose change starts a new group of rows.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    note: str = ""
    headings: int = 1
    groups: int = 0

    def starts_group(self, index: int) -> bool:
        """Tell if row ``index`` is the first of a group other than the first one."""
        first, before = ([cell.text for cell in self.rows[i][: self.groups]] for i in (index, index - 1))
        return index > 0 and first != before


def text_rows(rows: Sequence[Sequence[str]]) -> list[list[Cell]]:
    """Cells of plain text."""
    return [[Cell(text) for text in row] for row in rows]


def as_markdown(table: Table) -> str:
    """The table with its columns padded to be straight, under its title and note."""
    rows = [[f"{cell.text}{cell.spread} {cell.detail}".rstrip() for cell in row] for row in table.rows]
    cells = [[text.replace("|", "\\|") for text in row] for row in (table.columns, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    lines = [f"| {' | '.join(text.ljust(width) for text, width in zip(row, widths))} |" for row in cells]
    lines.insert(1, f"|{'|'.join('-' * (width + 2) for width in widths)}|")
    head = [f"{table.title}: {table.note}."] if table.title and table.note else [table.title or table.note]
    return "\n\n".join([*filter(None, head), "\n".join(lines)])


def latex_escape(text: str) -> str:
    """``text`` with the special characters of LaTeX escaped."""
    return text.translate(_LATEX)


def as_latex(table: Table) -> str:
    """A ``table`` environment for the package booktabs, the note as its caption; details are left out.

    Headings that repeat those of the row above are left blank.
    """

    def line(cells: Sequence[str]) -> str:
        return f"    {' & '.join(cells)} \\\\"

    body = []
    for index, row in enumerate(table.rows):
        new = index == 0 or table.starts_group(index)
        body += [r"    \midrule"] if new else []
        texts = [latex_escape("--" if cell.text == NOTHING else cell.text) for cell in row]
        texts = [rf"\textbf{{{text}}}" if cell.best else text for text, cell in zip(texts, row)]
        blank = 0 if new else table.groups
        body.append(line([""] * blank + [t + latex_escape(c.spread) for t, c in zip(texts, row)][blank:]))
    columns = [latex_escape(title[:1].upper() + title[1:]) for title in table.columns]
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{latex_escape(table.note)}}}",
            f"  \\begin{{tabular}}{{{'l' * table.headings}{'r' * (len(columns) - table.headings)}}}",
            r"    \toprule",
            line(columns),
            *body,
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def as_html(table: Table, method: Callable[[str], Markup | str] = escape) -> Markup:
    """The table as a region that scrolls; title and note are for the page to show.

    Args:
        table: to write.
        method: the HTML of a method's name.
    """

    def content(cell: Cell) -> Markup:
        text = method(cell.text) if cell.is_method else escape(cell.text + cell.spread)
        detail = Markup("<small>{}</small>").format(cell.detail) if cell.detail else ""
        return Markup("<strong>{}</strong>{}" if cell.best else "{}{}").format(text, detail)

    rows = []
    for index, row in enumerate(table.rows):
        cells = [Markup('<th scope="row">{}</th>').format(content(cell)) for cell in row[: table.headings]]
        cells += [Markup("<td>{}</td>").format(content(cell)) for cell in row[table.headings :]]
        start = Markup('<tr class="group">') if table.starts_group(index) else Markup("<tr>")
        rows.append(start + Markup("").join(cells) + Markup("</tr>\n"))
    return Markup(
        '<div class="scroll" tabindex="0" role="region" aria-label="{title}">\n<table>\n'
        '<caption class="unseen">{title}</caption>\n<thead><tr>{columns}</tr></thead>\n<tbody>\n{rows}</tbody>\n'
        "</table>\n</div>"
    ).format(
        title=table.title,
        columns=Markup("").join(Markup('<th scope="col">{}</th>').format(title) for title in table.columns),
        rows=Markup("").join(rows),
    )
