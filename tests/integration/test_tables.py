"""Tables on disk: what is missing or of another shape is said, never read over."""

from datetime import date

import polars as pl
import pytest

from fraud_platform.adapters.tables import Tables
from fraud_platform.errors import NotReadyError

DAYS = [date(2026, 1, day) for day in (5, 6, 7)]


@pytest.fixture
def tables(tmp_path):
    return Tables(tmp_path)


def test_days_are_read_in_order_and_no_unfinished_file_stays(tables, tmp_path):
    for day in reversed(DAYS):
        tables.write("rows", day, pl.DataFrame({"day": [day]}))
    assert tables.read("rows", DAYS)["day"].to_list() == DAYS
    assert len(list((tmp_path / "rows").iterdir())) == len(DAYS)


def test_days_of_other_columns_than_the_newest_are_named_with_what_to_do(tables):
    for day in DAYS[:2]:
        tables.write("features", day, pl.DataFrame({"a": [1.0]}))
    tables.write("features", DAYS[2], pl.DataFrame({"a": [1.0], "b": [2.0]}))
    with pytest.raises(NotReadyError, match=r"2 of 3 days .*first 2026-01-05.*: a, b") as error:
        tables.read("features", DAYS)
    assert error.value.hint == "materialize features for 2026-01-05 to 2026-01-07 again"
    assert tables.read("features", DAYS[:2]).height == 2


def test_no_days_of_a_table_are_its_columns_and_of_an_absent_one_an_answer(tables):
    with pytest.raises(NotReadyError, match="found no day of rows, expected any"):
        tables.read("rows", [])
    tables.write("rows", DAYS[0], pl.DataFrame({"a": [1]}))
    empty = tables.read("rows", [])
    assert (empty.columns, empty.height) == (["a"], 0)
