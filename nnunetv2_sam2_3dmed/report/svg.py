"""Matplotlib figures as SVG that belongs to the page: its text colour, its font, no identifiers that clash."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

# drawn in this colour, which no method has, and written as the page's own text colour
INK = "#010203"

STYLE: dict[Any, Any] = {
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "figure.facecolor": "none",
    "font.size": 9.5,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.7,
    "svg.fonttype": "none",  # text stays text: it can be selected, read aloud and scaled
    "text.color": INK,
    "text.parse_math": False,  # a case or method may have a $ in its name
    "xtick.color": INK,
    "ytick.color": INK,
}


@contextmanager
def new_figure(width: float, height: float) -> Iterator[Figure]:
    """A figure in the report's style, ``width`` x ``height`` inches; draw and :func:`inline_svg` it inside."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an ``<svg>`` element to be put into a page.

    Args:
        figure: made by :func:`new_figure`.
        name: unique within the page; all identifiers in the figure start with it.
        description: what is to be seen, for those who do not see it.
    """
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with mpl.rc_context({"svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    # the style would hold for the whole page, which has it in its own style sheet
    text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor")
    width, height = (72 * inches for inches in figure.get_size_inches())
    opening = (
        f'<svg role="img" aria-label="{escape(description)}" viewBox="0 0 {width:g} {height:g}" '
        f'style="--width: {width:g}px" xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink">'
    )
    return Markup(re.sub(r"<svg.*?>", lambda _: opening, text, count=1, flags=re.DOTALL).strip())
