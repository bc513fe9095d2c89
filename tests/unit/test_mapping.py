"""Mappings: what a declaration may say, and how each kind of source column is read."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fraud_platform.errors import DataContractError, MappingError
from fraud_platform.mapping import Mapped, parse_mapping
from fraud_platform.schemas import PAYLOAD_COLUMNS
from fraud_platform.source_columns import read_minor_units

CARD = "4111111111111111"
COLUMNS = {
    "transaction_id": "id",
    "event_timestamp": "at",
    "card_id": "card",
    "terminal_id": "shop",
    "amount": "sum",
}
DOCUMENT = {"columns": COLUMNS, "amount_unit": "major", "currency": "EUR"}
ROW = {"id": "t1", "at": "2024-01-01T10:00:00Z", "card": "c1", "shop": "m1", "sum": "12.34"}


def mapped(document: dict | None = None, *, key: bytes | None = None, **row: object) -> Mapped:
    cells = {name: [value] for name, value in (ROW | row).items()}
    raw = pl.DataFrame(cells, strict=False)
    return parse_mapping(DOCUMENT | (document or {})).apply(raw, token_key=key)


def broken(document: dict | None = None, **row: object) -> list[str]:
    result = mapped(document, **row)
    assert result.transactions.height + result.rejected.height == 1
    return result.rejected["broken_rule"].to_list()


def value(name: str, document: dict | None = None, **row: object) -> object:
    return mapped(document, **row).transactions[name].item()


def with_labels(**labels: object) -> dict:
    return {"labels": {"column": "fraud", "fraud": 1, "known_after_days": 7} | labels}


def test_a_readable_row_becomes_a_transaction():
    result = mapped()
    assert result.rejected.is_empty()
    assert dict(result.transactions.schema) == {"row_number": pl.Int64(), **PAYLOAD_COLUMNS}
    assert result.transactions.row(0)[:7] == (
        *(1, "t1", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        *("c1", "m1", 1234, "EUR"),
    )


@pytest.mark.parametrize(
    ("change", "message", "hint"),
    [
        ({"colums": {}}, "unknown key 'colums'", "columns instead of colums"),
        ({"columns": None}, "found nothing in columns", "transaction_id"),
        ({"columns": COLUMNS | {"amuont": "x"}}, "unknown key 'amuont'", "amount"),
        ({"columns": COLUMNS | {"amount": 5}}, "does not fit in columns", "quotes"),
        ({"columns": COLUMNS | {"card_id": "id"}}, "'id' for two of the five", "own"),
        ({"columns": {"amount": "sum"}}, "transaction_id", "quotes"),
        ({"amount_unit": "cents"}, "cents", "quotes"),
        ({"currency": None}, "no currency", "currency: EUR"),
        ({"currency": "euro"}, "found currency 'euro'", "columns.currency"),
        ({"time": {"zone": "Europe/Pariss"}}, "'Europe/Pariss'", "Europe/Paris "),
        ({"time": {"zone": "../etc"}}, "'../etc'", None),
        ({"labels": {"column": "f", "fraud": 1}}, "known_at and labels.known_after", "later"),
        (with_labels(known_at="x"), "both or none", "later"),
        (with_labels(known_after_days=-1), "-1", None),
        (with_labels(source="police"), "police", "quotes"),
        ({"csv": {"delimiter": "||"}}, "'||'", None),
        ({"csv": {"encoding": "hex"}}, "'hex'", None),
        ({"csv": {"encoding": "klingon"}}, "'klingon'", None),
    ],
)
def test_a_wrong_declaration_is_refused_with_what_to_do(change, message, hint):
    with pytest.raises(MappingError) as caught:
        parse_mapping(DOCUMENT | change)
    assert message in caught.value.message
    if hint is not None:
        assert hint in (caught.value.hint or "") + " "


@pytest.mark.parametrize("document", [None, [], "x", 5, {}])
def test_a_document_that_is_no_mapping_is_refused(document):
    with pytest.raises(MappingError):
        parse_mapping(document)


def test_missing_columns_are_told_with_the_nearest_names():
    raw = pl.DataFrame({"ID": ["1"], "at": ["x"], "cards": ["c"], CARD: ["x"]})
    with pytest.raises(DataContractError) as caught:
        parse_mapping(DOCUMENT).apply(raw, token_key=None)
    assert "expected also 'id', 'card', 'shop', 'sum'" in caught.value.message
    assert "ID instead of id" in str(caught.value)
    assert "cards instead of card" in str(caught.value)
    assert CARD not in str(caught.value)


@pytest.mark.parametrize(
    ("rule", "row"),
    [
        ("row_is_readable_text", {"shop": "caf\ufffd"}),
        ("transaction_id_is_present", {"id": "  "}),
        ("card_id_is_present", {"card": None}),
        ("terminal_id_is_present", {"shop": ""}),
        ("card_id_is_not_a_card_number", {"card": "4111 1111 1111 1111"}),
        ("event_timestamp_is_readable", {"at": ""}),
        ("event_timestamp_is_readable", {"at": "yesterday"}),
        ("event_timestamp_is_readable", {"at": "2024-02-30T10:00:00Z"}),
        ("event_timestamp_is_readable", {"at": "2024-01-01T25:00:00Z"}),
        ("event_timestamp_is_readable", {"at": "2024-01-01"}),
        ("event_timestamp_is_readable", {"at": "2024-01-01T10:00:00+99:00"}),
        ("amount_is_a_number", {"sum": "a lot"}),
        ("amount_is_a_number", {"sum": ""}),
        ("amount_is_a_number", {"sum": "nan"}),
        ("amount_is_a_number", {"sum": "inf"}),
        ("amount_is_a_number", {"sum": "1,50"}),
        ("amount_is_within_the_maximum", {"sum": "1e300"}),
        ("amount_is_within_the_maximum", {"sum": "-1e18"}),
        ("amount_has_the_currencys_decimals", {"sum": "12.345"}),
    ],
)
def test_an_unreadable_value_names_its_rule_and_shows_what_was_found(rule, row):
    result = mapped(**row)
    assert result.transactions.is_empty()
    assert result.rejected["broken_rule"].to_list() == [rule]
    assert "expected" in result.rejected["detail"].item()
    assert "4111 1111 1111 1111" not in str(result.rejected.rows())


def test_the_first_broken_rule_names_the_row():
    assert broken(id="", at="x", sum="y") == ["transaction_id_is_present"]


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-01T10:00:00Z", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        ("2024-01-01 10:00:00.123456789+0530", datetime(2024, 1, 1, 4, 30, 0, 123456, tzinfo=UTC)),
        ("2024-01-01t10:00-08", datetime(2024, 1, 1, 18, tzinfo=UTC)),
        ("2024-01-01 10:00:00 UTC", datetime(2024, 1, 1, 10, tzinfo=UTC)),
        ("2024-07-01 10:00:00", datetime(2024, 7, 1, 8, tzinfo=UTC)),
        ("2024-10-27 02:30:00", datetime(2024, 10, 27, 0, 30, tzinfo=UTC)),
    ],
)
def test_iso_times_are_read_to_the_microsecond(text, moment):
    assert value("event_timestamp", {"time": {"zone": "Europe/Paris"}}, at=text) == moment


def test_a_local_time_that_clocks_skip_is_unreadable():
    rule = broken({"time": {"zone": "Europe/Paris"}}, at="2024-03-31 02:30:00")
    assert rule == ["event_timestamp_is_readable"]


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2200, 1, 1)),  # noqa: DTZ001 -- the offset is added
    st.integers(-18 * 60, 18 * 60),
)
def test_any_iso_time_with_an_offset_is_read_as_python_reads_it(naive, minutes):
    sign = "-" if minutes < 0 else "+"
    text = f"{naive.isoformat()}{sign}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
    expected = datetime.fromisoformat(text).astimezone(UTC)
    assert value("event_timestamp", at=text) == expected


@pytest.mark.parametrize(
    ("time_format", "cell", "moment"),
    [
        ("%d/%m/%Y %H:%M", "02/01/2024 10:05", datetime(2024, 1, 2, 10, 5, tzinfo=UTC)),
        ("%d/%m/%y %T.%f", "02/01/24 10:05:00.5", datetime(2024, 1, 2, 10, 5, 0, 500000, UTC)),
        ("%Y%m%d%H%M%S", 20240102100500, datetime(2024, 1, 2, 10, 5, tzinfo=UTC)),
        ("%d.%m.%Y %H:%M %z", "02.01.2024 10:05 +0100", datetime(2024, 1, 2, 9, 5, tzinfo=UTC)),
        ("epoch_seconds", "1704189900.25", datetime(2024, 1, 2, 10, 5, 0, 250000, UTC)),
        ("epoch_milliseconds", 1704189900250, datetime(2024, 1, 2, 10, 5, 0, 250000, UTC)),
    ],
)  # fmt: skip
def test_formats_and_epochs_are_read(time_format, cell, moment):
    time = {"time": {"zone": "UTC", "format": time_format}}
    assert value("event_timestamp", time, at=cell) == moment
    assert broken(time, at="junk") == ["event_timestamp_is_readable"]


@pytest.mark.parametrize("cell", [datetime(2024, 1, 1, 10), "2024-01-01 10:00"])  # noqa: DTZ001 -- naive on purpose
def test_only_naive_times_and_no_zone_is_a_mapping_error(cell):
    with pytest.raises(MappingError, match="zone: UTC"):
        mapped(at=cell)


def test_naive_times_among_others_are_rejected_row_by_row():
    raw = pl.DataFrame([ROW, ROW | {"at": "2024-01-01 10:00"}])
    result = parse_mapping(DOCUMENT).apply(raw, token_key=None)
    assert result.transactions["row_number"].to_list() == [1]
    assert result.rejected["broken_rule"].to_list() == ["event_timestamp_has_a_zone"]


@pytest.mark.parametrize("unit", ["ms", "us"])
def test_a_native_time_beyond_the_calendar_rejects_its_row_only(unit):
    ticks = pl.Series("at", [0, 2**62, -(2**62)], dtype=pl.Int64).cast(pl.Datetime(unit))
    raw = pl.DataFrame([ROW, ROW, ROW]).with_columns(ticks)
    for zone in ("UTC", "Europe/Paris"):
        mapping = parse_mapping(DOCUMENT | {"time": {"zone": zone}})
        result = mapping.apply(raw, token_key=None)
        assert result.transactions["row_number"].to_list() == [1]
        assert result.rejected["broken_rule"].to_list() == ["event_timestamp_is_readable"] * 2


@pytest.mark.parametrize("cell", [1704189900, 1.5, date(2024, 1, 1)])
def test_numbers_and_dates_are_no_times_without_a_format(cell):
    with pytest.raises(MappingError, match="epoch_seconds"):
        mapped({"time": {"zone": "UTC"}}, at=cell)


@pytest.mark.parametrize("cell", [["a", "b"], {"a": 1}, timedelta(1)])
@pytest.mark.parametrize("name", ["card", "at", "sum", "fraud"])
def test_columns_that_hold_no_single_values_are_refused(cell, name):
    with pytest.raises(MappingError, match="flatten"):
        mapped(with_labels(), **{"fraud": 0, name: cell})


def test_bytes_that_are_no_text_reject_their_row():
    raw = pl.DataFrame([ROW, ROW]).with_columns(card=pl.Series([b"c1", b"\xff\xfe"]))
    result = parse_mapping(DOCUMENT).apply(raw, token_key=None)
    assert result.transactions["card_id"].to_list() == ["c1"]
    assert result.rejected["broken_rule"].to_list() == ["row_is_readable_text"]


@pytest.mark.parametrize(
    ("cell", "text"),
    [(17, "17"), (17.0, "17"), (17.5, "17.5"), (" a b ", "a b"), (b"x1", "x1"), (True, "true")],
)
def test_ids_of_any_type_become_text(cell, text):
    assert value("card_id", card=cell) == text


@pytest.mark.parametrize(
    ("amount", "currency", "minor"),
    [
        ("12.34", "EUR", 1234),
        ("12.340000000000001", "EUR", 1234),
        (0.1 + 0.2, "USD", 30),
        (Decimal("12.34"), "EUR", 1234),
        (1005, "JPY", 1005),
        ("1.005", "KWD", 1005),
        ("-5", "EUR", -500),
        ("999999.99", "EUR", 99999999),
        (" 1e2 ", "EUR", 10000),
    ],
)
def test_amounts_become_exact_minor_units(amount, currency, minor):
    assert value("amount_minor", {"currency": currency}, sum=amount) == minor


def test_minor_amounts_are_taken_as_they_are_and_have_no_decimals():
    assert value("amount_minor", {"amount_unit": "minor"}, sum="1234") == 1234
    rule = broken({"amount_unit": "minor"}, sum="12.34")
    assert rule == ["amount_has_the_currencys_decimals"]


@given(st.integers(-(10**12), 10**12), st.sampled_from([("JPY", 0), ("EUR", 2), ("KWD", 3)]))
def test_a_float_with_the_currencys_decimals_is_never_rounded_away(minor, currency):
    code, digits = currency
    major = pl.Series([float(Decimal(minor).scaleb(-digits))])
    got, too_fine = read_minor_units(major, pl.Series([code]), unit="major")
    assert (got.to_list(), too_fine.to_list()) == ([minor], [False])


@given(st.integers(0, 10**8), st.integers(1, 9))
def test_a_third_decimal_is_never_dropped(cents, mill):
    major = pl.Series([float(Decimal(cents * 10 + mill).scaleb(-3))])
    assert read_minor_units(major, pl.Series(["EUR"]), unit="major")[1].to_list() == [True]


def test_decimal_commas_are_read_when_declared():
    assert value("amount_minor", {"decimal_mark": ","}, sum="12,34") == 1234
    assert broken({"decimal_mark": ","}, sum="1.234,50") == ["amount_is_a_number"]


def test_a_currency_column_may_fall_back_to_the_constant():
    columns = {"columns": COLUMNS | {"currency": "cur"}}
    assert value("currency", columns, cur=" usd ") == "USD"
    assert value("currency", columns, cur=None) == "EUR"
    assert broken({**columns, "currency": None}, cur="") == ["currency_is_present"]


def test_context_is_read_when_named_and_null_otherwise():
    columns = {"columns": COLUMNS | {"country": "land", "latitude": "lat", "longitude": "lon"}}
    row = {"land": "FR", "lat": "48.8", "lon": None}
    assert value("country", columns, **row) == "FR"
    assert value("latitude", columns, **row) == 48.8
    assert value("longitude", columns, **row) is None
    assert value("device_id", columns, **row) is None
    assert broken(columns, **row | {"lat": "north"}) == ["latitude_is_a_number"]


def test_tokenize_replaces_card_ids_and_needs_a_key():
    result = mapped({"tokenize": True}, key=b"secret", card=CARD, sum="12.34")
    token = result.transactions["card_id"].item()
    assert token.startswith("tok_")
    with pytest.raises(MappingError, match="FRAUD_TOKEN_KEY"):
        mapped({"tokenize": True}, card=CARD)


def test_tokenize_shows_no_card_id_in_rejected_rows_not_even_a_mistyped_card():
    result = mapped({"tokenize": True}, key=b"secret", card="4111111111111112", sum="x")
    assert "4111111111111112" not in str(result.rejected.rows())


@pytest.mark.parametrize(
    ("labels", "cell", "verdicts", "rules"),
    [
        ({}, 1, ["fraud"], []),
        ({}, "1.0", ["fraud"], []),
        ({}, 0, [], []),
        ({}, None, [], []),
        ({"fraud": ["Y", "confirmed"]}, "Confirmed ", ["fraud"], []),
        ({"fraud": True}, "yes", ["fraud"], []),
        ({"fraud": True}, True, ["fraud"], []),
        ({"genuine": 0}, 2, [], ["label_value_is_listed"]),
        ({"genuine": 0}, "", [], []),
    ],
)
def test_label_values_are_compared_by_meaning(labels, cell, verdicts, rules):
    result = mapped(with_labels(**labels), fraud=cell)
    assert result.transactions.height == 1
    assert result.labels["verdict"].to_list() == verdicts
    assert result.rejected_labels["broken_rule"].to_list() == rules


def test_a_verdict_is_known_after_a_fixed_delay_or_at_a_told_time():
    event = datetime(2024, 1, 1, 10, tzinfo=UTC)
    delayed = mapped(with_labels(), fraud=1).labels.row(0, named=True)
    assert delayed["label_timestamp"] == event + timedelta(days=7)
    assert (delayed["label_source"], delayed["reason"]) == ("chargeback", None)
    told = with_labels(known_after_days=None, known_at="known", source="analyst", reason="why")
    row = {"known": "2024-01-03T00:00:00Z", "why": f"stolen {CARD}"}
    label = mapped(told, fraud=1, **row).labels.row(0, named=True)
    assert label["label_timestamp"] == datetime(2024, 1, 3, tzinfo=UTC)
    assert label["reason"] == "stolen [card number ending 1111]"


@pytest.mark.parametrize(
    ("known", "rule"),
    [
        ("2023-12-31T00:00:00Z", "label_is_known_after_its_transaction"),
        ("soon", "label_time_is_readable"),
        (None, "label_time_is_readable"),
    ],
)
def test_a_verdict_without_a_possible_time_is_rejected_and_its_transaction_kept(known, rule):
    result = mapped(with_labels(known_after_days=None, known_at="known"), fraud=1, known=known)
    assert result.transactions.height == 1
    assert result.labels.is_empty()
    assert result.rejected_labels["broken_rule"].to_list() == [rule]


def test_a_rejected_row_has_no_verdict():
    result = mapped(with_labels(), fraud=1, sum="x")
    assert result.labels.is_empty()
    assert result.rejected_labels.is_empty()


cells = st.none() | st.text(max_size=12) | st.sampled_from([*ROW.values(), CARD, "-1", "nan"])


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(ROW, cells)), max_size=10))
def test_every_row_is_read_or_rejected_exactly_once(rows):
    raw = pl.DataFrame(rows, schema=dict.fromkeys(ROW, pl.String))
    result = parse_mapping(DOCUMENT | {"time": {"zone": "UTC"}}).apply(raw, token_key=None)
    numbers = [*result.transactions["row_number"], *result.rejected["row_number"]]
    assert sorted(numbers) == list(range(1, len(rows) + 1))
    assert CARD not in str(result.rejected.rows())


@pytest.mark.parametrize("name", ["CVV2", "track_2", "pin-block"])
@pytest.mark.parametrize("field", ["transaction_id", "terminal_id", "amount"])
def test_a_mapping_names_no_column_of_what_nobody_may_keep(name, field):
    columns = DOCUMENT["columns"] | {field: name}
    with pytest.raises(MappingError, match="nobody may keep them"):
        parse_mapping(DOCUMENT | {"columns": columns})
