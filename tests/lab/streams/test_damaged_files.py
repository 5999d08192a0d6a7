"""Logs in other encodings, empty, cut short or damaged: read, or refused by name."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lab.streams import StreamError, load_script
from lab.streams.logged.datasets import DATASETS
from lab.streams.logged.logs import open_log
from lab.streams.logged.mapping import load_mapping
from lab.streams.logged.movielens import load
from lab.streams.logged.movielens_fetch import DataUnavailableError, from_archive
from tests.lab.streams.log_files import CSV, SECONDS, frame, opened, times


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


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("user", ["u0", "Jürgen"])
def test_utf_16_without_a_mark_is_recognised(tmp_path: Path, encoding: str, user: str) -> None:
    (tmp_path / "log.csv").write_bytes(CSV.replace("u0", user).encode(encoding))
    with pytest.raises(StreamError, match=f"set `encoding` in the mapping, for instance {encoding}"):
        opened(tmp_path, tmp_path / "log.csv")
