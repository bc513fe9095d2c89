"""The control maps against the tests: each line names one that is there, or says not yet."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = ("docs/model-risk.md", "docs/pci-dss.md")
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")
NOT_YET = "**not yet**"


def lines_of(page: str) -> list[str]:
    """The rows of the page's tables, without their heads."""
    rows = [line for line in (ROOT / page).read_text("utf-8").splitlines() if line.startswith("|")]
    heads = {place for n, row in enumerate(rows) if set(row) <= set("|- ") for place in (n, n - 1)}
    return [row for n, row in enumerate(rows) if n not in heads]


@pytest.mark.parametrize("page", PAGES)
def test_each_line_of_a_control_map_names_a_test_or_says_not_yet(page):
    bare = [row for row in lines_of(page) if not NAMED.search(row) and NOT_YET not in row]
    assert bare == []
    assert len(lines_of(page)) >= 20


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_control_map_names_is_there(page):
    gone = []
    for module, name in NAMED.findall((ROOT / page).read_text("utf-8")):
        paths = list((ROOT / "tests").rglob(module))
        told = "".join(path.read_text("utf-8") for path in paths)
        if not re.search(rf"^(async )?def {name}\(", told, re.MULTILINE):
            gone.append(f"{module}::{name}")
    assert gone == []


def test_what_is_not_yet_done_is_not_hidden_behind_a_dash():
    for page in PAGES:
        assert all(row.rstrip().endswith("|") for row in lines_of(page))
        assert NOT_YET in (ROOT / page).read_text("utf-8")
