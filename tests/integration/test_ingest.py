"""Real files through ingest into a real log: every row accounted for, no card number in it."""

import contextlib
import json
import os
import random
import re
import shutil
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fraud_platform.adapters import ingest as ingest_module
from fraud_platform.adapters.event_log import EventLog
from fraud_platform.adapters.ingest import IngestSummary, ingest, read_mapping
from fraud_platform.errors import DataContractError, MappingError, PermanentError
from fraud_platform.mapping import Mapping, parse_mapping
from fraud_platform.validation import ValidationPolicy
from serving import engine

ROOT = Path(__file__).parents[2]
RECEIVED = datetime(2024, 6, 1, tzinfo=UTC)
ALWAYS = (datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC))
CARDS = ["4111111111111111", "5555555555554444", "378282246310005", "4111-1111-1111-1111"]
HEADER = "id,at,card,shop,sum,fraud,device"
DOCUMENT = {
    "columns": {
        "transaction_id": "id",
        "event_timestamp": "at",
        "card_id": "card",
        "terminal_id": "shop",
        "amount": "sum",
        "device_id": "device",
    },
    "amount_unit": "major",
    "currency": "EUR",
    "time": {"zone": "UTC"},
    "labels": {"column": "fraud", "fraud": 1, "genuine": 0, "known_after_days": 7},
}


@pytest.fixture
def log(tmp_path):
    log = EventLog(tmp_path / "log" / "events.db")
    yield log
    log.close()


def run(path: Path, log: EventLog, mapping: Mapping | None = None, **changes) -> IngestSummary:
    arguments = {"policy": ValidationPolicy(), "received": RECEIVED, "token_key": None} | changes
    summary = ingest(path, mapping or parse_mapping(DOCUMENT), log=log, **arguments)
    quarantined = sum(summary.quarantined.values())
    assert summary.rows_in == summary.accepted + summary.duplicates + quarantined
    return summary


def write(folder: Path, *lines: str, name: str = "in.csv", header: str = HEADER) -> Path:
    path = folder / name
    path.write_text("\n".join([header, *lines]) + "\n", encoding="utf-8")
    return path


def row(number: int, *, day: int = 1, fraud: int | str = 0, amount: str = "5.00") -> str:
    return f"t{number},2024-03-{day:02}T10:00:{number % 60:02},c{number % 7},m1,{amount},{fraud},d1"


def kept(log: EventLog) -> pl.DataFrame:
    return log.transactions(*ALWAYS)


def quarantine(log: EventLog) -> pl.DataFrame:
    return log.rejections(*ALWAYS)


def bytes_of(log_path: Path) -> bytes:
    files = [path for path in log_path.parent.rglob("*") if path.is_file()]
    return b"".join(file.read_bytes() for file in files)


def test_good_rows_are_in_the_log_in_time_order_with_their_verdicts(tmp_path, log):
    summary = run(write(tmp_path, row(2, day=20), row(1, fraud=1)), log)
    assert summary.to_dict() == {
        "rows_in": 2,
        "accepted": 2,
        "duplicates": 0,
        "quarantined": {},
        "labels_accepted": 1,
        "labels_duplicates": 0,
        "labels_quarantined": {},
    }
    assert json.loads(json.dumps(summary.to_dict())) == summary.to_dict()
    assert kept(log)["transaction_id"].to_list() == ["t1", "t2"]
    assert kept(log)["source"].unique().to_list() == ["ingest:in.csv"]
    labels = log.labels(*ALWAYS)
    assert labels["transaction_id"].to_list() == ["t1"]
    assert labels["label_timestamp"].to_list() == [datetime(2024, 3, 8, 10, 0, 1, tzinfo=UTC)]
    # the verdict of day 8 lies between the payments of day 1 and day 20
    assert [*kept(log)["seq"], *labels["seq"]] == [1, 3, 2]


def test_the_same_file_again_changes_nothing(tmp_path, log):
    path = write(tmp_path, row(1, fraud=1), row(2), row(3, amount="x"))
    first = run(path, log)
    again = run(path, log)
    assert (first.accepted, again.accepted) == (2, 0)
    assert (again.duplicates, again.labels_duplicates) == (2, 1)
    assert again.quarantined == {"amount_is_a_number": 1}
    assert quarantine(log).height == 1


def test_an_interrupted_run_is_completed_by_the_next_one(tmp_path, log, monkeypatch):
    monkeypatch.setattr(ingest_module, "_COMMIT", 5)
    path = write(tmp_path, *(row(n, day=1 + n, fraud=n % 2) for n in range(20)))

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "append" and done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(path, log, progress=stop)
    assert 0 < kept(log).height < 20
    summary = run(path, log)
    assert (summary.accepted + summary.duplicates, kept(log).height) == (20, 20)
    assert log.labels(*ALWAYS).height == 10
    whole = EventLog(tmp_path / "whole.db")
    run(path, whole)
    assert kept(whole)["seq"].to_list() == kept(log)["seq"].to_list()


def test_progress_is_told_up_to_the_end_of_both_stages(tmp_path, log):
    told = []
    run(write(tmp_path, row(1)), log, progress=lambda *step: told.append(step))
    assert [step[0] for step in told] == ["read", "append"]
    assert all(done == total for _, done, total in told)


JUNK = [
    ("row_has_the_header_columns", "t9,2024-03-01T10:00:00"),
    ("row_has_the_header_columns", row(9) + ",more"),
    ("transaction_id_is_present", ",2024-03-01T10:00:00,c1,m1,5,0,"),
    ("event_timestamp_is_readable", "t9,01/03/2024,c1,m1,5,0,"),
    ("event_is_not_from_the_future", "t9,2031-03-01T10:00:00,c1,m1,5,0,"),
    ("event_is_not_older_than_the_oldest", "t9,1970-01-01T00:00:00,c1,m1,5,0,"),
    ("amount_is_not_negative", "t9,2024-03-01T10:00:00,c1,m1,-5,0,"),
    ("amount_is_within_the_maximum", "t9,2024-03-01T10:00:00,c1,m1,1000000.01,0,"),
    ("amount_is_within_the_maximum", "t9,2024-03-01T10:00:00,c1,m1,1e308,0,"),
    ("amount_has_the_currencys_decimals", "t9,2024-03-01T10:00:00,c1,m1,5.001,0,"),
    ("amount_is_a_number", "t9,2024-03-01T10:00:00,c1,m1,NaN,0,"),
    ("ids_are_at_most_64_characters", f"t9,2024-03-01T10:00:00,{'c' * 65},m1,5,0,"),
    ("texts_have_no_control_characters", 't9,2024-03-01T10:00:00,"c\n1",m1,5,0,'),
    ("card_id_is_not_a_card_number", f"t9,2024-03-01T10:00:00,{CARDS[0]},m1,5,0,"),
    ("no_other_column_holds_a_card_number", f"t9,2024-03-01T10:00:00,c1,m1,5,0,{CARDS[1]}"),
    ("no_other_column_holds_a_card_number", f"{CARDS[2]},2024-03-01T10:00:00,c1,m1,5,0,"),
]


@pytest.mark.parametrize(("rule", "line"), JUNK)
def test_a_junk_row_is_quarantined_by_rule_and_the_good_one_accepted(rule, line, tmp_path, log):
    summary = run(write(tmp_path, line, row(1)), log)
    assert (summary.rows_in, summary.accepted, summary.quarantined) == (2, 1, {rule: 1})
    found = quarantine(log).row(0, named=True)
    assert (found["row_number"], found["broken_rule"]) == (1, rule)
    assert found["detail"].startswith("found ")
    assert "expected" in found["detail"]
    assert json.loads(found["payload"])


def test_the_partition_of_a_bad_row_is_its_event_day_where_that_is_sane(tmp_path, log):
    run(
        write(tmp_path, row(1, amount="-5"), "t2,x,c1,m1,5,0,", "t3,2031-01-01T00:00,c,m,5,0,"), log
    )
    times = dict(quarantine(log).select("transaction_id", "partition_timestamp").iter_rows())
    assert times["t1"] == datetime(2024, 3, 1, 10, 0, 1, tzinfo=UTC)
    assert times["t2"] == times["t3"] == RECEIVED


@pytest.mark.parametrize("card", CARDS)
def test_no_card_number_reaches_the_bytes_of_the_log_or_a_message(card, tmp_path, log, caplog):
    good = "2024-03-01T10:00:00"
    lines = [
        f"t1,{good},{card},m1,5,0,d",
        f"{card},{good},c1,m1,5,0,d",
        f"t2,{card},c1,m1,5,0,d",
        f"t3,{good},c1,{card},5,0,d",
        f"t4,{good},c1,m1,{card},0,d",
        f"t5,{good},c1,m1,5,{card},d",
        f"t6,{good},c1,m1,5,0,{card}",
        f"t7,{good},c1,m1,5,0,paid with {card} yesterday",
        f"t8,{card}",
        f"t9,{good},c1,m1,5,0,d,{card},{card}",
        row(10),
    ]
    summary = run(write(tmp_path, *lines, name=f"{card}.csv"), log)
    assert summary.rows_in == 11
    assert kept(log)["transaction_id"].to_list() == ["t5", "t10"]
    log.close()
    stored = bytes_of(tmp_path / "log" / "events.db")
    assert b"card number ending" in stored
    for form in (card, card.replace("-", "")):
        assert form.encode() not in stored
        assert form not in caplog.text + str(summary)


def test_a_file_without_a_header_does_not_quote_its_card_numbers(tmp_path, log):
    path = write(tmp_path, row(1), header=f"t0,2024-03-01T10:00:00,{CARDS[0]},m1,5,0,d")
    with pytest.raises(DataContractError) as caught:
        run(path, log)
    assert CARDS[0] not in str(caught.value)
    assert "card number ending 1111" in str(caught.value)


def test_tokenized_cards_are_one_entity_however_they_are_written(tmp_path, log):
    good = "2024-03-01T10:00:00"
    lines = [
        f"t1,{good},{CARDS[0]},m1,5,0,",
        f"t2,{good},{CARDS[3]},m1,5,0,",
        f"t3,x,{CARDS[0]},m1,5,0,",
    ]
    path = write(tmp_path, *lines)
    mapping = parse_mapping(DOCUMENT | {"tokenize": True})
    summary = run(path, log, mapping, token_key=b"a secret")
    assert (summary.accepted, summary.quarantined) == (2, {"event_timestamp_is_readable": 1})
    (card,) = kept(log)["card_id"].unique()
    assert card.startswith("tok_")
    log.close()
    assert CARDS[0].encode() not in bytes_of(tmp_path / "log" / "events.db")
    with pytest.raises(MappingError, match="FRAUD_TOKEN_KEY"):
        run(path, log, mapping)


def test_an_id_with_two_payloads_is_quarantined_in_one_file_and_across_files(tmp_path, log):
    first = write(tmp_path, row(1), row(1), row(1, amount="6.00", fraud=1), row(2))
    summary = run(first, log)
    assert (summary.accepted, summary.duplicates) == (2, 1)
    assert summary.quarantined == {"transaction_id_names_one_payload": 1}
    second = run(write(tmp_path, row(1), row(2, amount="7.00", fraud=1), name="b.csv"), log)
    assert (second.accepted, second.duplicates) == (0, 1)
    assert second.quarantined == {"transaction_id_names_one_payload": 1}
    # a contradicted row's verdict is not believed either
    assert second.labels_accepted == summary.labels_accepted == 0
    found = quarantine(log).select("source", "row_number").rows()
    assert found == [("ingest:b.csv", 2), ("ingest:in.csv", 3)]


def test_a_later_export_brings_the_verdicts_that_were_not_known_before(tmp_path, log):
    assert run(write(tmp_path, row(1, fraud="")), log).labels_accepted == 0
    later = run(write(tmp_path, row(1, fraud=1), name="later.csv"), log)
    assert (later.duplicates, later.labels_accepted) == (1, 1)


def test_verdicts_that_cannot_be_are_quarantined_and_their_transactions_kept(tmp_path, log):
    document = DOCUMENT | {
        "labels": {"column": "fraud", "fraud": 1, "genuine": 0, "known_at": "known"}
    }
    header = HEADER + ",known"
    lines = [
        row(1, fraud=1) + ",2024-02-01T00:00:00",
        row(2, fraud=1) + ",2024-07-01T00:00:00",
        row(3, fraud=1) + ",",
        row(4, fraud="maybe") + ",2024-03-09T00:00:00",
        row(5, fraud=1) + ",2024-03-09T00:00:00",
    ]
    summary = run(write(tmp_path, *lines, header=header), log, parse_mapping(document))
    assert (summary.accepted, summary.quarantined, summary.labels_accepted) == (5, {}, 1)
    assert summary.labels_quarantined == {
        "label_is_known_after_its_transaction": 1,
        "label_is_not_from_the_future": 1,
        "label_time_is_readable": 1,
        "label_value_is_listed": 1,
    }
    assert quarantine(log)["row_number"].to_list() == [1, 2, 3, 4]


def test_naive_times_need_a_zone_in_the_mapping(tmp_path, log):
    naive = parse_mapping({**DOCUMENT, "time": {}})
    with pytest.raises(MappingError, match="zone: UTC"):
        run(write(tmp_path, row(1), row(2)), log, naive)
    assert log.last_seq() == 0
    zoned = "t3,2024-03-01T10:00:00+02:00,c1,m1,5,0,"
    summary = run(write(tmp_path, row(1), zoned), log, naive)
    assert (summary.accepted, summary.quarantined) == (1, {"event_timestamp_has_a_zone": 1})
    assert kept(log)["event_timestamp"].item() == datetime(2024, 3, 1, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty.csv", b"", "empty file"),
        ("lines.csv", b"\n\n\n", "expected also"),
        ("other.csv", b"Id,At,Cards\n1,2,3\n", "did you mean"),
        ("semi.csv", HEADER.replace(",", ";").encode(), "csv.delimiter"),
        ("junk.csv", bytes(range(128, 256)) * 20, "no text"),
        ("nul.csv", b"\0" * 4000, "no text"),
        ("a.csv", zlib.compress(random.Random(7).randbytes(5000)), "found"),
        ("a.csv.gz", b"\x1f\x8b\x08\x00junk", "gzip"),
        ("a.xlsx", b"PK\x03\x04junk", "Excel"),
        ("a.csv", "id,at".encode("utf-16"), "utf-16"),
        ("a.parquet", b"id,at\n1,2\n", "no Parquet data"),
        ("b.parquet", b"PAR1" + b"\0" * 40, "unreadable"),
        ("c.csv", f"{HEADER},id\n".encode(), "more than once"),
    ],
)
def test_a_file_that_is_unusable_as_a_whole_says_why_and_writes_nothing(
    name, content, words, tmp_path, log
):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataContractError) as caught:
        run(path, log)
    assert words in str(caught.value)
    assert "Hint: " in str(caught.value)
    assert log.last_seq() == 0


def test_a_file_that_is_damaged_behind_its_first_rows_writes_nothing(tmp_path, log, monkeypatch):
    path = tmp_path / "in.parquet"
    rows = [row(n, amount="x" if n < 5 else "5.00").split(",") for n in range(300)]
    frame = pl.DataFrame(rows, schema=HEADER.split(","), orient="row")
    frame.write_parquet(path, row_group_size=100, compression="uncompressed")
    monkeypatch.setattr("fraud_platform.adapters.source_files._BATCH", 100)
    whole = path.read_bytes()
    # The bytes of the last rows' first column: the footer and the first rows stay as they are.
    place = whole.index(b"t250")
    path.write_bytes(whole[: place - 400] + b"\xff" * 800 + whole[place + 400 :])
    told = []
    with pytest.raises(DataContractError):
        run(path, log, progress=lambda *step: told.append(step))
    assert told, "the damage was found before the first batch: move it"
    assert (log.last_seq(), quarantine(log).height) == (0, 0)


def test_a_live_writer_gets_in_between_the_commits_of_a_file(tmp_path, log, monkeypatch):
    monkeypatch.setattr(ingest_module, "_COMMIT", 5)
    path = write(tmp_path, *(row(n, day=1 + n) for n in range(20)))
    log.last_seq()
    got_in, done = [], threading.Event()

    def live() -> None:
        own = EventLog(tmp_path / "log" / "events.db", busy_seconds=2.0)
        while not done.wait(0.005):
            with own.writing() as writer:
                got_in.append(writer.last_seq)
        own.close()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(live)
        try:
            assert run(path, log).accepted == 20
        finally:
            done.set()
        writing.result()
    assert {5, 10, 15} <= set(got_in)


def test_a_missing_path_and_a_folder_are_told(tmp_path, log):
    with pytest.raises(DataContractError, match="no file at"):
        run(tmp_path / "nowhere.csv", log)
    with pytest.raises(DataContractError, match="found a folder"):
        run(tmp_path, log)


def test_a_header_without_rows_is_a_file_with_no_rows(tmp_path, log):
    assert run(write(tmp_path), log).rows_in == 0
    path = tmp_path / "none.parquet"
    pl.DataFrame(schema=dict.fromkeys(HEADER.split(","), pl.String)).write_parquet(path)
    assert run(path, log).rows_in == 0


def test_blank_lines_byte_order_marks_and_windows_line_ends_are_no_rows(tmp_path, log):
    path = tmp_path / "win.csv"
    path.write_bytes(f"\ufeff{HEADER}\r\n\r\n{row(1)}\r\n\r\n{row(2)}".encode())
    assert run(path, log).accepted == 2


def test_an_unclosed_quote_loses_no_count(tmp_path, log):
    lines = [row(1), 't2,"2024-03-01T10:00:00,c1,m1,5,0,d', *(row(n) for n in range(3, 9000))]
    summary = run(write(tmp_path, *lines), log)
    assert summary.accepted >= 1
    assert "row_has_the_header_columns" in summary.quarantined


def test_other_delimiters_decimals_and_encodings_are_declared(tmp_path, log):
    path = tmp_path / "fr.csv"
    line = "t1;2024-03-01 10:00;c1;caf\u00e9;5,50;0;d"
    path.write_bytes("\n".join([HEADER.replace(",", ";"), line]).encode("latin-1"))
    csv = {"csv": {"delimiter": ";", "encoding": "latin-1"}, "decimal_mark": ","}
    assert run(path, log, parse_mapping(DOCUMENT | csv)).accepted == 1
    assert kept(log).select("terminal_id", "amount_minor").row(0) == ("caf\u00e9", 550)
    wrong = parse_mapping(DOCUMENT | {"csv": {"delimiter": ";"}, "decimal_mark": ","})
    assert run(path, log, wrong).quarantined == {"row_is_readable_text": 1}


def test_native_parquet_types_are_read(tmp_path, log):
    path = tmp_path / "in.parquet"
    pl.DataFrame(
        {
            "id": pl.Series([1, 2, 3, 4], dtype=pl.Int32),
            "at": [RECEIVED - timedelta(days=d) for d in (30, 40, 50, 60)],
            "card": pl.Series(["c1", "c1", "c2", None], dtype=pl.Categorical),
            "shop": [7.0, 8.0, None, 9.0],
            "sum": [1.5, float("nan"), 2.25, 0.0],
            "fraud": [True, False, None, False],
            "device": pl.Series([b"d1", None, None, None]),
        }
    ).with_columns(pl.col("at").dt.convert_time_zone("Asia/Tokyo")).write_parquet(path)
    labels = {"labels": {"column": "fraud", "fraud": True, "known_after_days": 1}}
    summary = run(path, log, parse_mapping(DOCUMENT | labels))
    assert (summary.accepted, summary.labels_accepted) == (1, 1)
    assert summary.quarantined == {
        "amount_is_a_number": 1,
        "card_id_is_present": 1,
        "terminal_id_is_present": 1,
    }
    stored = kept(log).row(0, named=True)
    assert (stored["transaction_id"], stored["terminal_id"], stored["device_id"]) == (
        "1",
        "7",
        "d1",
    )
    assert stored["event_timestamp"] == RECEIVED - timedelta(days=30)


def test_a_damaged_parquet_file_never_crashes_the_reader(tmp_path, log):
    path = tmp_path / "in.parquet"
    rows = [f"{row(n)}".split(",") for n in range(300)]
    pl.DataFrame(rows, schema=HEADER.split(","), orient="row").write_parquet(path)
    whole = path.read_bytes()
    for place in range(4, len(whole), max(1, len(whole) // 150)):
        for damaged in (whole[:place], whole[:place] + b"\xff\x00\x13" + whole[place + 3 :]):
            path.write_bytes(damaged)
            with contextlib.suppress(PermanentError):
                run(path, log)


junk_cells = st.text(max_size=6) | st.sampled_from(
    [
        *["", "t1", "t2", "2024-03-01T10:00:00", "2024-13-01", "c1", "-1", "5", "1e400", "0", "1"],
        *["x", '"', "\0", "a;b", "\ufffd", CARDS[0], " "],
    ]
)
junk_lines = st.lists(junk_cells, max_size=9).map(",".join) | st.integers(0, 3).map(row)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(junk_lines, max_size=12))
def test_whatever_a_csv_file_holds_every_row_is_accounted_for(tmp_path, lines):
    path = tmp_path / "junk.csv"
    path.write_bytes("\n".join([HEADER, *lines]).encode("utf-8", "replace"))
    folder = tmp_path / "log"
    shutil.rmtree(folder, ignore_errors=True)
    log = EventLog(folder / "events.db")
    summary = run(path, log)
    assert summary.accepted == kept(log).height
    log.close()
    assert CARDS[0].encode() not in bytes_of(folder / "events.db")


@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(content=st.binary(max_size=300), with_header=st.booleans())
def test_any_bytes_are_rows_or_a_refusal(tmp_path, log, content, with_header):
    path = tmp_path / "junk"
    path.write_bytes((HEADER.encode() + b"\n" if with_header else b"") + content)
    refused = contextlib.nullcontext() if with_header else pytest.raises(DataContractError)
    with refused:
        run(path, log)


def test_a_mapping_file_that_cannot_be_read_is_told(tmp_path):
    with pytest.raises(MappingError, match="no readable mapping"):
        read_mapping(tmp_path / "nowhere.yaml")
    path = tmp_path / "m.yaml"
    path.write_text("columns: [")
    with pytest.raises(MappingError, match="no valid YAML"):
        read_mapping(path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(MappingError):
        read_mapping(path)


def benchmark_data() -> Path:
    folder = os.environ.get("FRAUD_BENCHMARK_DATA") or ROOT.parent / "shared" / "data"
    path = Path(folder) / "handbook" / "transactions.parquet"
    if not path.exists():
        pytest.skip(f"no benchmark data at {path}; set FRAUD_BENCHMARK_DATA")
    return path


def test_a_part_of_an_ingest_puts_no_scorer_far_behind():
    assert ingest_module._COMMIT < engine._FAR_BEHIND


def test_the_handbooks_first_days_are_accepted_whole(tmp_path, log):
    rows = pl.read_parquet(benchmark_data(), n_rows=20_000)
    path = tmp_path / "days.parquet"
    rows.write_parquet(path)
    mapping = read_mapping(ROOT / "tests" / "fixtures" / "handbook.yaml")
    summary = run(path, log, mapping)
    assert (summary.rows_in, summary.accepted, summary.quarantined) == (20_000, 20_000, {})
    assert summary.labels_accepted == rows["TX_FRAUD"].sum()
    stored = kept(log)
    assert stored["transaction_id"].to_list() == [str(n) for n in rows["TRANSACTION_ID"]]
    assert (stored["amount_minor"] / 100 - rows["TX_AMOUNT"]).abs().max() < 1e-9
    as_utc = rows["TX_DATETIME"].dt.replace_time_zone("UTC").dt.cast_time_unit("us")
    assert stored["event_timestamp"].equals(as_utc.alias("event_timestamp"))


def test_the_example_in_the_docs_does_what_the_docs_say(tmp_path, log):
    page = (ROOT / "docs" / "how-to" / "bring-your-own-data.md").read_text(encoding="utf-8")
    blocks = {
        kind: re.search(rf"```{kind}\n(.*?)```", page, re.DOTALL).group(1)
        for kind in ("csv", "yaml", "json")
    }
    data, mapping = tmp_path / "payments.csv", tmp_path / "payments.yaml"
    data.write_text(blocks["csv"])
    mapping.write_text(blocks["yaml"])
    summary = run(data, log, read_mapping(mapping))
    assert summary.to_dict() == json.loads(blocks["json"])
    assert summary.to_text() in page
