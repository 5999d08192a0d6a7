"""Which streams the command line asks for."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab.streams import StreamError
from lab.streams.logged.movielens_stream import MOVIELENS_STREAMS
from lab.streams.sources import NamedStreams, Source, choose, log_source
from tests.lab.evaluate.small import write_small_log


@pytest.mark.parametrize(
    ("suite", "names"),
    [(None, 9), ("standard", 9), ("scripted", 8), *((name, 1) for name in MOVIELENS_STREAMS)],
)
def test_suites_name_their_streams(suite: str | None, names: int) -> None:
    assert len(choose(NamedStreams(suite), quick=False)) == names


def test_quick_is_two_short_streams() -> None:
    sources = choose(NamedStreams(), quick=True)
    assert [source.name for source in sources] == ["abrupt", "no-drift"]
    assert all(source.script is not None and source.script.requests <= 1500 for source in sources)


def test_a_script_without_a_suite_is_the_only_stream(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine")
    assert [s.name for s in choose(NamedStreams(script=path), quick=False)] == ["mine"]
    assert [s.name for s in choose(NamedStreams(script=path), quick=True)] == ["mine"]


def test_a_missing_file_of_a_log_is_found_when_the_stream_is_named(tmp_path: Path) -> None:
    log, mapping = write_small_log(tmp_path)
    with pytest.raises(StreamError, match=r"gone\.csv: no such file; name the log by its path"):
        log_source(tmp_path / "gone.csv", str(mapping))
    log.unlink()
    with pytest.raises(StreamError, match=f"{log.name}: no such file; .* holds"):
        log_source(None, str(mapping))


def test_a_stream_gets_another_key_when_any_of_its_files_changes(tmp_path: Path) -> None:
    log, mapping = write_small_log(tmp_path)
    source = log_source(None, str(mapping))
    before = source.describe()
    assert source.describe() == before
    log.write_text(log.read_text().replace("u1,", "u2,"))
    assert source.describe() != before
    folder = tmp_path / "folder"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "a.csv").write_text("x")
    whole = Source("mind", log=folder, dataset="mind")
    before = whole.describe()
    (folder / "deep" / "a.csv").write_text("y")
    assert whole.describe() != before


@pytest.mark.parametrize(
    ("named", "says"),
    [
        (NamedStreams("nonsense"), "no suite 'nonsense'; there are standard"),
        (NamedStreams(log=Path("x.csv")), "needs --mapping FILE"),
        (NamedStreams(mapping="mind"), "name the folder you downloaded by --log FOLDER"),
        (NamedStreams(script=Path("gone.yaml")), r"gone\.yaml: No such file"),
        (NamedStreams(log=Path("gone"), mapping="mind"), "gone: no such folder; name the one you downloaded mind to"),
        (NamedStreams(mapping="gone.yaml"), r"gone\.yaml: No such file"),
    ],
)
def test_a_wrong_choice_is_refused_with_a_remedy(named: NamedStreams, says: str) -> None:
    with pytest.raises(StreamError, match=says):
        choose(named, quick=False)
