"""Logs as they really come: typed columns, gaps, other encodings, damaged files."""

from __future__ import annotations

import gzip
import json
import logging
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.streams import Chunk, Stream, StreamError, load_script
from lab.streams.logged.datasets import DATASETS
from lab.streams.logged.logs import open_log
from lab.streams.logged.mapping import load_mapping
from lab.streams.logged.movielens import load
from lab.streams.logged.movielens_fetch import DataUnavailableError, from_archive

BEGIN = pd.Timestamp("2026-01-01 09:00", tz="UTC")
SECONDS = [BEGIN.timestamp() + 600.0 * n for n in range(40)]
MAPPING = "interactions: {{user: user, item: item, time: {time}, label: {label}}}\n{more}"
USERS = "users: {path: users.csv, key: id, fields: {job: {}, age: {kind: number}, tags: {kind: multi}}}"


def frame(**columns: object) -> pd.DataFrame:
    usual = {
        "user": [f"u{n % 9}" for n in range(40)],
        "item": [f"i{n % 7}" for n in range(40)],
        "time": SECONDS,
        "label": [n % 2 for n in range(40)],
    }
    return pd.DataFrame(usual | columns)


def opened(folder: Path, log: Path, time: str = "time", label: str = "label", more: str = "") -> Stream:
    mapping = folder / "m.yaml"
    mapping.write_text(MAPPING.format(time=time, label=label, more=more), encoding="utf-8")
    return open_log(mapping, log)


def times(stream: Stream) -> list[float]:
    chunk = Chunk.concat([*stream.chunks("pretrain"), *stream.chunks("live")])
    return sorted(set(chunk.time.tolist()))


def parquet(folder: Path, **columns: object) -> Path:
    frame(**columns).to_parquet(folder / "log.parquet")
    return folder / "log.parquet"


# --- times ---


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "America/New_York", None])
def test_a_datetime_column_of_any_resolution_and_zone_is_read_as_time(
    tmp_path: Path, unit: Literal["s", "ms", "us", "ns"], zone: str | None
) -> None:
    moments = pd.Series(pd.to_datetime(SECONDS, unit="s", utc=True)).dt.tz_convert(zone).dt.as_unit(unit)
    stream = opened(tmp_path, parquet(tmp_path, time=moments))
    assert set(times(stream)) <= set(SECONDS)
    assert times(stream)[0] == SECONDS[0]


def test_a_unit_for_a_datetime_column_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    moments = pd.Series(pd.to_datetime(SECONDS, unit="s", utc=True))
    stream = opened(tmp_path, parquet(tmp_path, time=moments), time="{column: time, unit: ms}")
    assert times(stream)[0] == SECONDS[0]
    assert "'time' holds times by its type, unit 'ms' is not used" in caplog.text


def test_a_column_of_dates_is_read_as_midnights(tmp_path: Path) -> None:
    days = [date(2026, 1, 1 + n // 2) for n in range(40)]
    stream = opened(tmp_path, parquet(tmp_path, time=days))
    assert times(stream)[0] == datetime(2026, 1, 1, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (BEGIN.timestamp() * 1e3, "row 3: 1767258000000.0 with unit 's' is no time between 1970 and 2100; it looks like"
         " ms: set time.unit to ms"),
        (-5.0, "row 3: -5.0 with unit 's' is no time between 1970 and 2100"),
        (1e300, r"row 3: 1e\+300 with unit 's' is no time"),
        (float("nan"), "row 3: the time is empty; drop or fill such rows"),
        (float("inf"), "row 3: cannot read inf as a time"),
    ],
)  # fmt: skip
def test_a_number_that_is_not_a_time_is_refused_with_row_value_and_remedy(
    tmp_path: Path, value: float, says: str
) -> None:
    with pytest.raises(StreamError, match=rf"log\.parquet: column 'time', {says}"):
        opened(tmp_path, parquet(tmp_path, time=[*SECONDS[:2], value, *SECONDS[3:]]))


@pytest.mark.parametrize("value", [pd.NaT, pd.Timestamp("1900-01-01"), pd.Timestamp("2200-01-01")])
def test_a_missing_or_out_of_range_datetime_is_refused(tmp_path: Path, value: pd.Timestamp) -> None:
    moments = pd.to_datetime(pd.Series(SECONDS), unit="s")
    moments[2] = value
    with pytest.raises(StreamError, match=r"column 'time', row 3: .*(empty|no time between 1970 and 2100)"):
        opened(tmp_path, parquet(tmp_path, time=moments))


def test_text_with_an_offset_names_the_unit_that_reads_it(tmp_path: Path) -> None:
    text = [pd.Timestamp(s, unit="s", tz="Europe/Berlin").isoformat() for s in SECONDS]
    log = tmp_path / "log.csv"
    frame(time=text).to_csv(log, index=False)
    with pytest.raises(StreamError, match=r"it looks like ISO 8601: set time\.unit to iso"):
        opened(tmp_path, log)
    assert times(opened(tmp_path, log, time="{column: time, unit: iso}"))[0] == SECONDS[0]


def test_seconds_read_as_milliseconds_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    opened(tmp_path, parquet(tmp_path), time="{column: time, unit: ms}")
    assert "with unit 'ms' all times lie in 1970" in caplog.text


def test_a_datetime_is_not_a_number(tmp_path: Path) -> None:
    log = parquet(tmp_path, label=pd.to_datetime(pd.Series(SECONDS), unit="s"))
    with pytest.raises(StreamError, match=r"column 'label' \(label with at_least\), row 1: .* is no number"):
        opened(tmp_path, log, label="{column: label, at_least: 4}")


# --- one value, one spelling ---


@pytest.mark.parametrize("ending", ["csv", "jsonl", "parquet"])
def test_integers_keep_every_digit_in_a_column_with_missing_values(tmp_path: Path, ending: str) -> None:
    big = 2**53 + 1
    users = pd.DataFrame({"id": [f"u{n}" for n in range(9)]})
    users["job"] = pd.array([big, None, *range(7)], dtype="Int64")
    side = tmp_path / f"users.{ending}"
    {"csv": lambda: users.to_csv(side, index=False), "parquet": lambda: users.to_parquet(side),
     "jsonl": lambda: users.to_json(side, orient="records", lines=True)}[ending]()  # fmt: skip
    more = f"users: {{path: users.{ending}, key: id, fields: {{job: {{}}}}}}"
    stream = opened(tmp_path, parquet(tmp_path), more=more)
    jobs = {user.user_id: user.fields.get("job") for user in stream.catalogue.users}
    assert (jobs["u0"], jobs["u1"], jobs["u2"]) == (str(big), None, "0")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_integers_that_a_data_frame_made_floats_are_integers_again(tmp_path: Path, ending: str) -> None:
    users = pd.DataFrame({"id": [f"u{n}" for n in range(9)], "job": [7.0, None, *[2.0] * 7], "paid": [True] * 9})
    side = tmp_path / f"users.{ending}"
    users.to_csv(side, index=False) if ending == "csv" else users.to_parquet(side)
    more = f"users: {{path: users.{ending}, key: id, fields: {{job: {{}}, paid: {{}}}}}}"
    fields = opened(tmp_path, parquet(tmp_path), more=more).catalogue.users[0].fields
    assert fields == {"job": "7", "paid": "true"}


def test_lists_are_converted_part_by_part_and_infinity_is_a_missing_value(tmp_path: Path) -> None:
    rows = [{"id": f"u{n}", "age": float("inf") if n else 34, "tags": [1, 2.0, "x", None]} for n in range(9)]
    (tmp_path / "users.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    more = "users: {path: users.jsonl, key: id, fields: {age: {kind: number}, tags: {kind: multi}}}"
    users = opened(tmp_path, parquet(tmp_path), more=more).catalogue.users
    assert users[0].fields == {"age": 34.0, "tags": ["1", "2", "x"]}
    assert users[1].fields == {"tags": ["1", "2", "x"]}


def test_a_list_where_one_value_is_wanted_is_refused(tmp_path: Path) -> None:
    log = parquet(tmp_path, user=[["a", "b"]] * 40)
    with pytest.raises(StreamError, match=r"column 'user' \(user\), row 1: .* is a list"):
        opened(tmp_path, log)


def test_numbers_of_a_mapping_match_the_spelling_of_the_log(tmp_path: Path) -> None:
    log = parquet(tmp_path, label=[float(n % 5) for n in range(40)])
    stream = opened(tmp_path, log, label="{column: label, among: [3, 4]}")
    assert Chunk.concat(list(stream.chunks("pretrain"))).click.any()


def test_a_lookup_without_a_match_reports_both_spellings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "users.csv").write_text("id,job,age,tags\n7,cook,3,a\n8,nurse,4,b\n", encoding="utf-8")
    opened(tmp_path, parquet(tmp_path, user=["007", "008"] * 20), more=USERS)
    assert "0 of the log's 2 users have a row; the log says '007', the table '7'" in caplog.text
    caplog.clear()
    opened(tmp_path, parquet(tmp_path, user=[7, 8] * 20), more=USERS)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("label", ["label", "{column: label, at_least: 1}", "{column: label, among: ['1']}"])
def test_a_blank_label_is_no_click(tmp_path: Path, label: str) -> None:
    log = tmp_path / "log.csv"
    frame(label=["1", ""] * 20).to_csv(log, index=False)
    stream = opened(tmp_path, log, label=label)
    chunk = Chunk.concat([*stream.chunks("pretrain"), *stream.chunks("live")])
    assert chunk.click.sum() == 20


# --- files ---


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl"])
def test_a_byte_order_mark_is_ignored(tmp_path: Path, ending: str) -> None:
    plain, log = tmp_path / "plain", tmp_path / f"log.{ending}"
    if ending == "jsonl":
        frame().to_json(plain, orient="records", lines=True)
    else:
        frame().to_csv(plain, index=False, sep="\t" if ending == "tsv" else ",")
    log.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    assert times(opened(tmp_path, log))[0] == SECONDS[0]


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "jsonl"])
def test_another_encoding_is_reported_with_file_line_and_remedy(tmp_path: Path, ending: str) -> None:
    row = json.dumps({"user": "Jürgen"}, ensure_ascii=False) if ending == "jsonl" else "Jürgen,i,1,1"
    data = f"user,item,time,label\n{row}\n".encode("latin-1")
    log = tmp_path / f"log.{ending}"
    log.write_bytes(gzip.compress(data) if ending.endswith("gz") else data.replace(b"user,item,time,label", b"{}"))
    with pytest.raises(
        StreamError, match=r"log\.\S+, line 2: b'.*' is not utf-8; .*`encoding` in the mapping.*latin-1"
    ):
        opened(tmp_path, log)


def test_the_named_encoding_is_used_and_an_unknown_one_is_refused(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    log.write_bytes(frame(user=["Jürgen", "Zoë"] * 20).to_csv(index=False).encode("latin-1"))
    (tmp_path / "m.yaml").write_text(
        "interactions: {user: user, item: item, time: time, label: label, encoding: latin-1}", encoding="utf-8"
    )
    assert open_log(tmp_path / "m.yaml", log).catalogue.users[0].user_id == "Jürgen"
    (tmp_path / "m.yaml").write_text("interactions: {user: u, item: i, time: t, encoding: utf-9}", encoding="utf-8")
    with pytest.raises(StreamError, match=r"m\.yaml: interactions\.encoding: .*no encoding 'utf-9'"):
        open_log(tmp_path / "m.yaml", log)


@pytest.mark.parametrize("read", [load_mapping, load_script])
def test_yaml_in_another_encoding_is_refused_with_the_line(tmp_path: Path, read: object) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes("name: x\nabout: Müll\n".encode("latin-1"))
    with pytest.raises(StreamError, match=r"x\.yaml, line 2: .* is not utf-8: save the file as UTF-8"):
        read(path)  # type: ignore[operator]


def test_yaml_with_a_byte_order_mark_is_read_and_a_date_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: mine")
    assert load_script(path).name == "mine"
    path.write_text("name: mine\nabout: 2026-02-30", encoding="utf-8")
    with pytest.raises(StreamError, match="not YAML"):
        load_script(path)


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "jsonl", "jsonl.gz", "parquet"])
def test_an_empty_file_is_refused(tmp_path: Path, ending: str) -> None:
    log = tmp_path / f"log.{ending}"
    log.write_bytes(b"")
    with pytest.raises(StreamError, match="empty"):
        opened(tmp_path, log)


def whole_bytes(folder: Path, ending: str) -> bytes:
    log = folder / f"whole.{ending}"
    if ending == "parquet":
        frame().to_parquet(log)
    elif ending.startswith("jsonl"):
        frame().to_json(log, orient="records", lines=True)
    else:
        frame().to_csv(log, index=False)
    return log.read_bytes()


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz", "parquet"])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str) -> None:
    data = whole_bytes(tmp_path, ending)
    log = tmp_path / f"log.{ending}"
    log.write_bytes(data[: len(data) // 2])
    with pytest.raises(StreamError, match=r"log\.\S+: (the file is cut or damaged|cannot be read as parquet)"):
        opened(tmp_path, log)


@pytest.mark.parametrize("ending", ["csv.gz", "jsonl.gz", "parquet", "csv", "jsonl"])
@settings(max_examples=25)
@given(position=st.floats(0, 1, exclude_max=True), value=st.integers(0, 255), keep=st.floats(0.1, 1))
def test_a_damaged_file_is_read_or_refused_and_never_raises_another_error(
    tmp_path_factory: pytest.TempPathFactory, ending: str, position: float, value: int, keep: float
) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    data = bytearray(whole_bytes(folder, ending))
    data[int(position * len(data))] = value
    log = folder / f"log.{ending}"
    log.write_bytes(bytes(data[: int(keep * len(data))]))
    try:
        opened(folder, log)
    except StreamError as error:
        assert str(log) in str(error)


# --- public data sets ---


@pytest.mark.parametrize(
    ("name", "pairs", "texts"),
    [
        ("microlens", ("x_pairs.csv", "user,item,timestamp\n1,1,1583378629552\n"), "x_title_en.csv"),
        ("ninerec", ("x_pair.csv", "u1,v1,1600000000\nu2,v1,1600000001\n"), "x_item.csv"),
    ],
)
def test_titles_in_another_encoding_and_empty_files_are_refused_by_name(
    tmp_path: Path, name: str, pairs: tuple[str, str], texts: str
) -> None:
    (tmp_path / pairs[0]).write_text(pairs[1], encoding="utf-8")
    (tmp_path / texts).write_bytes("1,x,Müll\n".encode("latin-1"))
    with pytest.raises(StreamError, match=r"line 1: .* is not utf-8"):
        DATASETS[name](tmp_path)
    (tmp_path / texts).write_text("1,x,rubbish\n", encoding="utf-8")
    (tmp_path / pairs[0]).write_bytes(b"")
    with pytest.raises(StreamError, match="empty"):
        DATASETS[name](tmp_path)


def test_a_damaged_copy_of_movielens_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "ml-100k.zip"
    archive.write_bytes(b"PK\x03\x04" + bytes(40))
    with pytest.raises(DataUnavailableError, match="not a whole copy"):
        from_archive(tmp_path / "cache", archive)
    folder = tmp_path / "official"
    folder.mkdir()
    for name in ("u.data", "u.item", "u.user"):
        (folder / name).write_bytes(b"1|2\n")
    with pytest.raises(DataUnavailableError, match="does not hold MovieLens 100K"):
        load(folder)


def test_a_float_column_reads_to_the_same_numbers_as_its_text() -> None:
    from lab.streams.logged.columns import numbers

    values = np.random.default_rng(0).normal(size=200)
    assert np.array_equal(numbers(pd.Series([repr(float(v)) for v in values], dtype=object)), values)


# --- what a reader would alter in silence ---

CSV = frame().to_csv(index=False)


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("log.csv", CSV.replace("u3", "u\0003", 1).encode(), "line 5: holds a zero byte"),
        ("log.csv", CSV.replace("label", "label,user", 1).encode(), "two columns are called 'user'"),
        ("log.csv", CSV.encode("utf-32"), "set `encoding` in the mapping, for instance utf-32"),
        ("log.csv", CSV.replace(",", ";").encode(), "set `delimiter`"),
        ("log.csv.gz", gzip.compress(gzip.compress(CSV.encode())), "compressed twice"),
        ("log.csv.gz", CSV.encode(), "or drop the .gz"),
        ("log.csv", b"PAR1\xff\xff", "set `format` in the mapping to parquet"),
        ("log.csv", b"PK\3\4\xff\xff", "packed by zip: unpack it"),
    ],
)
def test_a_file_with_a_wrong_extension_is_refused_with_a_remedy(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StreamError, match=message):
        opened(tmp_path, tmp_path / name)


def test_a_folder_in_place_of_a_log_is_reported(tmp_path: Path) -> None:
    (tmp_path / "log.csv").mkdir()
    with pytest.raises(StreamError, match="a folder: name a file, or a pattern"):
        opened(tmp_path, tmp_path / "log.csv")


@pytest.mark.parametrize("delimiter", ["||", ".", "((", "::", "\N{EURO SIGN}"])
def test_a_delimiter_is_text_and_no_pattern(tmp_path: Path, delimiter: str) -> None:
    whole = frame(time=[int(second) for second in SECONDS]).to_csv(index=False).replace(",", delimiter)
    (tmp_path / "log.csv").write_text(whole, encoding="utf-8")
    mapping = tmp_path / "m.yaml"
    mapping.write_text(MAPPING.format(time="time", label=f"label, delimiter: '{delimiter}'", more=""), encoding="utf-8")
    assert times(open_log(mapping, tmp_path / "log.csv")) == SECONDS


@pytest.mark.parametrize("ending", ["CSV", "Csv.GZ", "JSONL"])
def test_the_ending_may_be_in_capitals(tmp_path: Path, ending: str) -> None:
    text = frame().to_json(orient="records", lines=True) if ending == "JSONL" else CSV
    data = gzip.compress(text.encode()) if ending.endswith("GZ") else text.encode()
    (tmp_path / f"log.{ending}").write_bytes(data)
    assert times(opened(tmp_path, tmp_path / f"log.{ending}")) == SECONDS


def test_binary_identifiers_that_are_not_text_stay_distinct(tmp_path: Path) -> None:
    stream = opened(tmp_path, parquet(tmp_path, user=[bytes([0xF0 + n % 9]) for n in range(40)]))
    assert len(stream.catalogue.users) == 9


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.0, "row 4: 0.0 .* in 1970 while others are years later"),
        (time(9, 30), "has no date: name another column"),
        (timedelta(1), "has no date: name another column"),
        ([1], "one value is wanted"),
    ],
)
def test_missing_values_and_non_times_are_refused_in_a_time_column(tmp_path: Path, value: object, message: str) -> None:
    column: list[object] = [*SECONDS]
    column[3] = value
    if not isinstance(value, float):
        column = [value] * len(SECONDS)
    with pytest.raises(StreamError, match=message):
        opened(tmp_path, parquet(tmp_path, time=column))


def test_infinity_is_not_a_label(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="row 1: infinity is no label"):
        opened(tmp_path, parquet(tmp_path, label=[float("inf"), *[n % 2 for n in range(1, 40)]]))


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ("interactions: {user: u, user: v, item: i, time: t}", "line 1: the key 'user' is listed twice"),
        ("name: a\nname: b\ninteractions: {user: u, item: i, time: t}", "line 2: the key 'name' is listed twice"),
        ("gap_s: .inf\ninteractions: {user: u, item: i, time: t}", "gap_s: .*finite"),
        ("shown: yes\ninteractions: {user: u, item: i, time: t}", "shown: a number is wanted, not true or false"),
        ("name: NO\ninteractions: {user: u, item: i, time: t}", "name: YAML reads this as False.*quotes"),
        ("interactions: {user: u, item: i, time: t, separator: x}", "unknown key 'separator'(?!.*mean 'separator')"),
        ("interactions: {user: u, item: i, time: t, columns: [a, a]}", "two columns are called 'a'"),
        ("interactions: {user: u, item: i, time: t, delimiter: '\"'}", "cannot separate columns"),
        ("interactions: {user: u, item: i, time: {column: t, format: ''}}", "interactions.time.format: .*at least 1"),
    ],
)
def test_a_contradictory_or_empty_mapping_is_refused_by_key(tmp_path: Path, mapping: str, message: str) -> None:
    (tmp_path / "m.yaml").write_text(mapping, encoding="utf-8")
    with pytest.raises(StreamError, match=message):
        load_mapping(tmp_path / "m.yaml")


@pytest.mark.parametrize("form", ["%Q", "%"])
def test_an_invalid_time_format_is_refused(tmp_path: Path, form: str) -> None:
    (tmp_path / "log.csv").write_text(CSV, encoding="utf-8")
    with pytest.raises(StreamError, match=r"time\.format .* is no strptime format"):
        opened(tmp_path, tmp_path / "log.csv", time=f"{{column: time, format: '{form}'}}")
