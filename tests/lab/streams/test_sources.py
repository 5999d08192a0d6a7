"""Which streams the command line asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lab.streams import StreamError
from lab.streams.logged.movielens_stream import MOVIELENS_STREAMS
from lab.streams.sources import choose


@pytest.mark.parametrize(
    ("suite", "names"),
    [(None, 9), ("standard", 9), ("scripted", 8), *((name, 1) for name in MOVIELENS_STREAMS)],
)
def test_suites_name_their_streams(suite: str | None, names: int) -> None:
    assert len(choose(suite, None, None, None, quick=False)) == names


def test_quick_is_two_short_streams() -> None:
    sources = choose(None, None, None, None, quick=True)
    assert [source.name for source in sources] == ["abrupt", "no-drift"]
    assert all(source.script is not None and source.script.requests <= 1500 for source in sources)


def test_a_script_alone_is_the_only_stream(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine")
    assert [s.name for s in choose(None, path, None, None, quick=False)] == ["mine"]
    assert [s.name for s in choose(None, path, None, None, quick=True)] == ["mine"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("nonsense", None, None, None), "no suite 'nonsense'; there are standard"),
        ((None, None, Path("x.csv"), None), "needs --mapping FILE"),
        ((None, None, None, "mind"), "name the folder you downloaded by --log FOLDER"),
        ((None, Path("gone.yaml"), None, None), r"gone\.yaml: No such file"),
    ],
)
def test_a_wrong_choice_is_refused_with_the_cure(arguments: tuple[Any, ...], says: str) -> None:
    with pytest.raises(StreamError, match=says):
        choose(*arguments, quick=False)
