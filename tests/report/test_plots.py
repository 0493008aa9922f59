from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np

from nnunetv2_sam2_3dmed.evaluation.scores import METRICS
from nnunetv2_sam2_3dmed.report.methods import describe_methods
from nnunetv2_sam2_3dmed.report.plots import INK, count_better, inline_svg, new_figure, scatter_plot

SVG = "{http://www.w3.org/2000/svg}"
NASTY = '<b>$x$ & "y"</b>'


def simple(name: str) -> str:
    with new_figure(2, 1) as figure:
        figure.add_subplot().plot([1, 2], [3, 4], color="#DD5566")
        figure.axes[0].set_xlabel(NASTY)
        return inline_svg(figure, name, NASTY)


def test_a_figure_takes_the_colour_of_the_page_and_brings_no_style():
    text = simple("one")
    assert INK not in text and "currentColor" in text and "#dd5566" in text
    assert "<style" not in text and "<metadata" not in text


def test_names_are_escaped_and_not_taken_for_formulas():
    root = ElementTree.fromstring(simple("one"))
    assert root.get("aria-label") == NASTY
    assert NASTY in ["".join(element.itertext()) for element in root.iter(f"{SVG}text")]


def test_two_figures_share_no_identifier_and_refer_only_to_their_own():
    texts = [simple("one"), simple("two")]
    identifiers = [set(re.findall(r'\bid="([^"]*)"', text)) for text in texts]
    assert identifiers[0] and not identifiers[0] & identifiers[1]
    for text, own in zip(texts, identifiers):
        assert set(re.findall(r'(?:href="|url\()#([^")]*)', text)) <= own


def test_the_same_figure_is_the_same_text():
    assert simple("one") == simple("one")


def test_better_and_worse_are_counted_in_the_direction_of_the_metric():
    reference, scores = np.array([0.5, 0.5, 0.5, 0.5, np.nan]), np.array([0.6, 0.7, 0.4, 0.5, 0.9])
    assert count_better(reference, scores, METRICS[0]) == "better in 2, worse in 1, equal in 1 of 4"
    assert count_better(reference, scores, METRICS[3]) == "better in 1, worse in 2, equal in 1 of 4"


def test_a_scatter_plot_names_the_cases_that_differ_most(make_comparison):
    comparison = make_comparison({"x": {"a": [0.9, 0.9, 0.5, 0.6]}, "y": {"a": [0.88, 0.2, 0.9, 0.6]}})
    x, y = describe_methods(comparison.methods)
    text = scatter_plot(comparison, y, x, METRICS[0], "s")
    assert set(re.findall(r"case_\d", text)) == {"case_1", "case_2"}
    assert "better in 1, worse in 2, equal in 1 of 4" in text
