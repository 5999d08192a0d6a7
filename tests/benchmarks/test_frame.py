"""The frame that runs the benchmarks."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import __main__ as frame
from benchmarks.__main__ import BENCHMARKS, Benchmark

FOLDER = Path(frame.__file__).parent


def test_every_listed_benchmark_is_a_module() -> None:
    assert [one.name for one in BENCHMARKS if not (FOLDER / f"{one.name}.py").exists()] == []


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(SystemExit, match="no benchmark 'speed'; there are live_features"):
        frame.chosen(["speed"])


def test_without_names_all_run_and_with_names_only_those_run_in_order() -> None:
    assert frame.chosen([]) == list(BENCHMARKS)
    assert [one.name for one in frame.chosen(["pipeline", "scoring"])] == ["pipeline", "scoring"]


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 1)])
def test_a_benchmark_that_fails_fails_the_run(
    code: int, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").touch()
    (tmp_path / "benchmarks" / "one.py").write_text(f"def main():\n    print('a table')\n    return {code}\n")
    monkeypatch.setattr(frame, "BENCHMARKS", (Benchmark("one", "nothing"),))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert frame.main([]) == expected
    assert "a table" in capfd.readouterr().out
