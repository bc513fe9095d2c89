import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from fraud_platform.adapters.evaluation_page import (
    comparison_markdown,
    evaluation_markdown,
    evaluation_page,
)
from fraud_platform.adapters.page import Table
from fraud_platform.adapters.svg_chart import Axis
from fraud_platform.evaluation import EvaluationPolicy, evaluate
from tests.simulated_scores import simulated_rows
from tests.small_reports import small_report

REPORT = evaluate(simulated_rows(seed=1), EvaluationPolicy(draws=20))
VOID = {"meta", "rect", "path"}


class Balance(HTMLParser):
    """Fails on a tag that is closed and was not open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def read(page: str) -> Balance:
    found = Balance()
    found.feed(page)
    assert not found.open
    return found


def test_the_page_is_well_formed_and_asks_for_nothing_from_outside():
    page = evaluation_page(REPORT, "xgboost")
    read(page)
    addresses = set(re.findall(r"https?://[^\"']+", page))
    assert addresses == {"http://www.w3.org/2000/svg"}
    assert "<script" not in page
    assert "src=" not in page


def test_every_plot_says_in_words_what_it_shows():
    page = evaluation_page(REPORT)
    pictures = re.findall(r"<svg.*?</svg>", page)
    assert len(pictures) == 5
    for picture in pictures:
        title, description = list(ElementTree.fromstring(picture))[:2]  # noqa: S314 -- our own
        assert title.tag.endswith("title")
        assert len(title.text) > 5
        assert len(description.text) > 20


def test_a_name_with_markup_stays_text():
    page = evaluation_page(REPORT, "<b>&model</b>")
    assert "<b>" not in page
    assert any("<b>&model</b>" in text for text in read(page).texts)


def test_the_same_report_gives_the_same_bytes():
    assert evaluation_page(REPORT) == evaluation_page(replace(REPORT))


def test_markdown_holds_the_pictures_and_keeps_a_cell_a_cell():
    told = comparison_markdown(
        REPORT,
        None,
        verdict=["a|b <i>", "[x](http://y)"],
        tables=[Table("gates", "", ("g", "r"), (("x|y", "1"),))],
    )
    pictures = re.findall(r"data:image/svg\+xml;base64,([^)]+)\)", told)
    assert len(pictures) == 5
    ElementTree.fromstring(base64.b64decode(pictures[0]))  # noqa: S314 -- our own
    assert "a\\|b &lt;i&gt;" in told
    assert "| x\\|y | 1 |" in told
    assert "\\[x\\](http://y)" in told, "the name of a segment makes no link"


def test_a_comparison_shows_both_models_beside_each_other():
    other = evaluate(simulated_rows(seed=1, skill=1.0), EvaluationPolicy(draws=20))
    names = ("challenger 8", "champion 7")
    texts = comparison_markdown(REPORT, other, names=names, verdict=["Go."])
    assert "Go." in texts
    for report in (REPORT, other):
        assert f"{report.average_precision:.3f}" in texts
    assert texts.index("challenger 8") < texts.index("champion 7")


def test_a_report_on_few_rows_says_what_it_cannot_judge():
    for shown in (evaluation_page(small_report()), evaluation_markdown(small_report())):
        assert "Too few cards have fraud for intervals: 1" in shown
        assert "cannot judge" in shown


@pytest.mark.parametrize("high", [0.003, 1.0, 7.0, 41_000.0])
def test_an_axis_has_a_handful_of_round_ticks_within_its_ends(high):
    ticks = Axis("x", 0.0, high).ticks()
    assert 3 <= len(ticks) <= 7
    assert ticks[0] == 0.0
    assert ticks[-1] <= high * (1 + 1e-9)
