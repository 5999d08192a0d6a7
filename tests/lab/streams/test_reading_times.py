"""Times of a log as they really come: typed columns, units, zones, and what is no time."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Literal

import pandas as pd
import pytest

from lab.streams import StreamError
from tests.lab.streams.log_files import BEGIN, CSV, SECONDS, frame, opened, parquet, times


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


def test_a_column_too_coarse_for_its_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match=r"'time' is float32, which rounds its times to 128 s; write them as float64"):
        opened(tmp_path, parquet(tmp_path, time=pd.Series(SECONDS, dtype="float32")))


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


@pytest.mark.parametrize("word", ["now", "today", " Now "])
@pytest.mark.parametrize("rule", ["unit: iso", "format: '%Y-%m-%d %H:%M:%S'"])
def test_a_word_for_the_moment_of_reading_is_no_time(tmp_path: Path, word: str, rule: str) -> None:
    texts = [pd.Timestamp(s, unit="s").strftime("%Y-%m-%d %H:%M:%S") for s in SECONDS]
    frame(time=[*texts[:2], word, *texts[3:]]).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(StreamError, match=rf"column 'time', row 3: cannot read '{word}' as a time"):
        opened(tmp_path, tmp_path / "log.csv", time=f"{{column: time, {rule}}}")


@pytest.mark.parametrize(("form", "unit", "scale"), [("{:.5E}", "s", 1), ("{:.5E}", "ms", 1e3), ("{:g}", "ns", 1e9)])
def test_times_that_a_spreadsheet_rounded_are_refused(tmp_path: Path, form: str, unit: str, scale: float) -> None:
    frame(time=[form.format(s * scale) for s in SECONDS]).to_csv(tmp_path / "log.csv", index=False)
    with pytest.raises(StreamError, match=r"'1\.76726[eE]\+\d\d', rounded to 10000 s; .* export the column with all"):
        opened(tmp_path, tmp_path / "log.csv", time=f"{{column: time, unit: {unit}}}")


@pytest.mark.parametrize(("form", "unit", "scale"), [("{!r}", "ns", 1e9), ("{:.9e}", "s", 1)])
def test_exact_times_with_an_exponent_are_read(tmp_path: Path, form: str, unit: str, scale: float) -> None:
    frame(time=[form.format(s * scale) for s in SECONDS]).to_csv(tmp_path / "log.csv", index=False)
    stream = opened(tmp_path, tmp_path / "log.csv", time=f"{{column: time, unit: {unit}}}")
    assert set(times(stream)) <= set(SECONDS)


@pytest.mark.parametrize("column", [[True] * 40, [None, *[True] * 39], [*SECONDS[:39], False]])
def test_true_and_false_are_no_times(tmp_path: Path, column: list[object]) -> None:
    log = tmp_path / "log.jsonl"
    frame(time=pd.Series(column, dtype=object)).to_json(log, orient="records", lines=True)
    with pytest.raises(StreamError, match=r"cannot read (True|False) .* no times: name another|the time is empty"):
        opened(tmp_path, log)
    with pytest.raises(StreamError, match=r"cannot read True as a time .* true and false are no times: name another"):
        opened(tmp_path, parquet(tmp_path, time=[True] * 40))


@pytest.mark.parametrize("form", ["%Q", "%", "mixed"])
def test_an_invalid_time_format_is_refused(tmp_path: Path, form: str) -> None:
    (tmp_path / "log.csv").write_text(CSV, encoding="utf-8")
    with pytest.raises(StreamError, match=r"time\.format .* is no strptime format"):
        opened(tmp_path, tmp_path / "log.csv", time=f"{{column: time, format: '{form}'}}")
