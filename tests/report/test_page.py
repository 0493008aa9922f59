"""The page, read back as a browser does."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from html.parser import HTMLParser

import numpy as np
import pytest

from nnunetv2_sam2_3dmed.evaluation.comparison import Comparison
from nnunetv2_sam2_3dmed.evaluation.comparison_files import results_table
from nnunetv2_sam2_3dmed.evaluation.folds import FoldMean, FoldSpread
from nnunetv2_sam2_3dmed.report import page as report_page
from nnunetv2_sam2_3dmed.report.costs import CostsSection
from nnunetv2_sam2_3dmed.report.gallery import CasePicture, CaseSurfaces, Gallery
from nnunetv2_sam2_3dmed.report.methods import describe_methods
from nnunetv2_sam2_3dmed.report.page import Contents, render
from nnunetv2_sam2_3dmed.report.training_curves import TrainingCurve

VOID = {"meta", "img", "br", "link", "hr", "input"}
PIXEL = "data:image/png;base64,AAAA"
NASTY = "<script>alert('x')</script> & \"$q$\""


class Page(HTMLParser):
    """Elements, text, tables and headings of a page; fails on tags that are not balanced."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.elements: list[tuple[str, Mapping[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        self.text.append(data)
        if "td" in self.open or "th" in self.open:
            self.rows[-1][-1] += data

    def of(self, tag: str) -> list[Mapping[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def table_rows(self) -> list[list[str]]:
        return [[" ".join(cell.split()) for cell in row] for row in self.rows]


def contents(comparison: Comparison, **changes) -> Contents:
    methods = describe_methods(comparison.methods)
    values = {
        "methods": methods,
        "reference": methods[0],
        "folds": ["0"],
        "used": {"versions": {"python": "3.x"}, "machine": {"platform": "a machine", "cpu_count": 2}},
        "curves": {},
        "costs": CostsSection(None, []),
        "gallery": None,
        **changes,
    }
    return Contents(**values)


def page_of(comparison: Comparison, **changes) -> tuple[Page, str]:
    text = render(comparison, contents(comparison, **changes), datetime(2026, 1, 2, 3, 4))
    return Page(text), text


@pytest.fixture
def no_plots(monkeypatch) -> None:
    monkeypatch.setattr(report_page, "metric_plots", lambda *_: [])


@pytest.fixture(scope="module")
def curve() -> TrainingCurve:
    return TrainingCurve("0", np.arange(3), np.array([1.0, 2, 3]), *np.array([[3.0, 2, 1], [4, 3, 2], [0.1, 0.5, 0.6]]))


@pytest.fixture(scope="module")
def full(make_comparison, curve):
    comparison = make_comparison(
        {
            "unet": {"organ": [0.9, 0.8, 0.7], "lesion": [0.5, 0.6, None]},
            NASTY: {"organ": [0.8, 0.9, 0.6], "lesion": [0.4, 0.7, 0.2]},
        },
        cases=["one", "<i>two</i>", "three"],
        dataset="Dataset009_Spleen",
    )
    gallery = Gallery(
        [CasePicture("<i>two</i>", ["best of unet"], PIXEL, "Slices.")],
        [CaseSurfaces("one", "median", [("ground truth", PIXEL), ("unet", PIXEL), (NASTY, PIXEL)])],
        [("organ", "#56B4E9"), ("lesion", "#E69F00")],
        ["A note."],
    )
    return comparison, *page_of(comparison, curves={"unet": [curve]}, gallery=gallery)


def test_nothing_is_fetched_from_elsewhere(full):
    _, page, text = full
    for tag, attributes in page.elements:
        for name in ("src", "href", "xlink:href", "srcset", "data", "action"):
            value = attributes.get(name)
            if value is not None and not (tag == "a" and value.startswith("https://arxiv.org/")):
                assert value.startswith(("#", "data:image/png;base64,")), (tag, value)
    assert not page.of("link") and not page.of("script") and "@import" not in text
    assert not re.search(r"url\((?!#)", text)


def test_links_and_identifiers(full):
    _, page, _ = full
    identifiers = [attributes["id"] for _, attributes in page.elements if attributes.get("id")]
    assert len(identifiers) == len(set(identifiers))
    targets = {a["href"][1:] for a in page.of("a") if a["href"].startswith("#")}
    assert {"summary", "results", "plots", "cases", "surfaces", "training", "costs", "published", "facts"} <= targets
    assert targets <= set(identifiers)


def test_pictures_have_texts_and_headings_are_in_order(full):
    _, page, _ = full
    assert len(page.of("img")) == 4 and all(image.get("alt") for image in page.of("img"))
    # box plots, scatter and waterfall of four metrics, and four training curves
    assert len(page.of("svg")) == 4 + 4 + 4 + 4
    assert all(svg["role"] == "img" and svg["aria-label"] for svg in page.of("svg"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in zip(levels, levels[1:]))


def test_names_of_users_are_escaped(full):
    _, page, text = full
    assert "<script" not in text and "<i>" not in text
    assert NASTY in "".join(page.text) and "<i>two</i>" in "".join(page.text)


def test_every_row_of_the_tables_is_there(full):
    comparison, page, _ = full
    rows = page.table_rows()
    nasty = f"■ {NASTY}"
    # foreground means by hand: (0.9 + 0.5) / 2 and so on; the third case of unet has no lesion
    assert ["one", "● unet", "0.700"] in [row[:3] for row in rows]
    assert ["one", nasty, "0.600"] in [row[:3] for row in rows]
    assert ["three", "● unet", "0.350"] in [row[:3] for row in rows]
    assert ["three", "● unet", "n/a"] in [[*row[:2], row[-1]] for row in rows]
    # organ: mean and sample standard deviation of 0.9, 0.8 and 0.7
    assert any(row[0] == "● unet" and row[1].startswith("0.800 ± 0.100(0.800)") for row in rows)
    assert any(row[0] == "● unet" and row[-1] == "1" for row in rows)  # a failure
    tests = [row for row in rows if row[:3] in (["Dice", nasty, "● unet"], ["NSD", nasty, "● unet"])]
    assert [row[-1] for row in tests] == ["n/a (n=3)"] * 2
    for rank in comparison.ranks:
        symbol = "●" if rank.method == "unet" else "■"
        assert [rank.metric, f"{symbol} {rank.method}", f"{rank.mean_rank:.2f}"] in [row[:3] for row in rows]
    # arXiv 2510.08967, Table 1
    assert ["SAM2-3dMed", "0.973", "0.947", "0.974", "1.62"] in rows


def test_facts_and_what_was_not_found(full):
    _, page, _ = full
    text = " ".join(" ".join(page.text).split())
    for fact in ("Dataset009_Spleen", "2 mm", "python 3.x", "a machine", "2026-01-02 03:04", "Both masks empty"):
        assert fact in text
    assert f"No training log or checkpoint was found for {NASTY}" in text


def test_one_method_of_a_dataset_without_publications(make_comparison):
    comparison = make_comparison({"only": {"a": [0.9, 0.5]}})
    page, text = page_of(comparison)
    assert len(page.of("svg")) == 4  # the box plots
    assert 'id="published"' not in text and 'id="cases"' not in text and "Paired tests" not in text
    assert "No training log or checkpoint was found for only" in text


def test_classes_that_are_empty_everywhere(make_comparison):
    comparison = make_comparison({"x": {"a": [None, None]}, "y": {"a": [None, None]}})
    page, _ = page_of(comparison)
    rows = page.table_rows()
    assert ["case_0", "● x", "0.000", "0.000", "0.000", "n/a"] in rows


def test_hd95_of_different_cases_has_no_best(make_comparison, no_plots):
    # HD95: 1 and 2 against 1.5 and 4
    both = make_comparison({"x": {"a": [0.9, 0.8]}, "y": {"a": [0.85, 0.6]}})
    # the second case of y is missed: its mean, 0.5, is of the easy case alone
    one = make_comparison({"x": {"a": [0.9, 0.8]}, "y": {"a": [0.95, None]}})
    # as many cases, but others
    others = make_comparison({"x": {"a": [0.9, None]}, "y": {"a": [None, 0.5]}})
    for comparison, best in ((both, {"x"}), (one, set()), (others, set())):
        table = results_table(comparison, "a")
        assert {row[0].text for row in table.rows if row[4].best} == best
        assert {row[0].text for row in table.rows if row[1].best} == {"x"}
    _, text = page_of(one)
    assert "where methods have an HD95 of different cases, none is bold" in text


def test_folds_and_their_spread(make_comparison, no_plots):
    comparison = make_comparison({"x": {"a": [0.5, 0.7]}})
    scores = {"dice": 0.5, "iou": 0.4, "nsd": 0.6, "hd95_mm": float("nan")}
    folds = [FoldMean("fold_0", 1, scores), FoldMean("fold_1", 1, {**scores, "dice": 0.7, "hd95_mm": 3.0})]
    spread = FoldSpread(
        "x",
        "a",
        folds,
        {**scores, "dice": 0.6, "hd95_mm": 3.0},
        {**dict.fromkeys(scores, 0.0), "dice": 0.1414, "hd95_mm": float("nan")},
    )
    page, _ = page_of(replace(comparison, folds=[spread]))
    rows = page.table_rows()
    assert ["a", "● x", "fold_0", "1", "0.500", "0.400", "0.600", "n/a"] in rows
    assert ["a", "● x", "fold_1", "1", "0.700", "0.400", "0.600", "3.00"] in rows
    assert ["a", "● x", "all 2", "2", "0.600 ± 0.141", "0.400 ± 0.000", "0.600 ± 0.000", "3.00"] in rows


def test_warnings_of_the_comparison_come_first(make_comparison, no_plots, monkeypatch):
    comparison = make_comparison({"x": {"a": [0.5]}})
    monkeypatch.setattr(Comparison, "warnings", ["The truth <changed>."], raising=False)
    _, text = page_of(comparison)
    assert text.index("The truth &lt;changed&gt;.") < text.index("x reaches a mean Dice")
