"""The page of the scenario benchmark stands alone, and shows what the runs say."""

import re
from xml.etree import ElementTree

import pytest

from fraud_platform.adapters.heal_bench_page import bench_page, headline_markdown
from fraud_platform.adapters.svg_bars import Bars
from tests.bench_results import bench_report

PAGE = bench_page(bench_report())


def test_the_page_asks_for_nothing_from_outside_and_runs_nothing():
    assert set(re.findall(r"https?://[^\"']+", PAGE)) == {"http://www.w3.org/2000/svg"}
    assert "<script" not in PAGE
    assert "src=" not in PAGE


def test_every_picture_is_sound_and_says_in_words_what_it_shows():
    pictures = [ElementTree.fromstring(p) for p in re.findall(r"<svg.*?</svg>", PAGE)]  # noqa: S314 -- our own
    titles = [picture[0].text for picture in pictures]
    assert titles == [
        "False positive rate, incident",
        "Money saved, share of the cost of doing nothing",
    ]
    assert all(len(picture[1].text) > 40 for picture in pictures)


def test_the_page_has_the_promises_the_causes_and_the_scenarios():
    assert re.findall(r"<h2>(.*?)</h2>", PAGE) == [
        *("Promises and figures", "Plots", "Named causes", "By scenario")
    ]


def test_a_report_without_runs_makes_a_page_too():
    assert "Named causes" in bench_page(bench_report(()))


def test_the_short_form_holds_the_promises_and_the_incident():
    told = headline_markdown(bench_report())
    assert "recoverable money recovered" in told
    assert told.count("data:image/svg+xml") == 1


def test_a_bar_is_as_long_as_its_number_and_a_loss_goes_to_the_left():
    bars = Bars("t", "d", ("a", "b", "c"), [("one", [0.5, -0.25, None])])
    found = [
        {k: float(v) for k, v in rect.attrib.items() if k in {"x", "width"}}
        for rect in ElementTree.fromstring(bars.svg()).iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314
        if rect.get("height") == "8" and rect.get("width") != "12"
    ]
    gain, loss = found
    assert gain["width"] == pytest.approx(2 * loss["width"], abs=0.2)
    assert loss["x"] + loss["width"] == pytest.approx(gain["x"], abs=0.2)
