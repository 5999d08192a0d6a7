"""A file that the operating system refuses is reported by every command in one sentence with the cure."""

from __future__ import annotations

import errno
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from driftline.cli import main
from model.whole_files import write_whole


def into_a_file(folder: Path) -> None:
    (folder / "taken").write_text("x")
    (folder / "taken" / "inner").mkdir(parents=True, exist_ok=True)


def over_a_file(folder: Path) -> None:
    (folder / "taken").write_text("x")
    (folder / "taken").mkdir(exist_ok=True)


def onto_a_full_device(_folder: Path) -> None:
    with Path("/dev/full").open("w") as file:
        file.write("x")


def beyond_the_size_of_files(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000, hard))
    try:
        write_whole(folder / "taken", b"x" * 100_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def copied_to_a_full_disk(folder: Path) -> None:
    (folder / "from").mkdir()
    (folder / "from" / "one").write_text("x")

    def full(_source: str, target: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", target)

    shutil.copytree(folder / "from", folder / "taken", copy_function=full)


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (into_a_file, "/taken/inner: Not a directory; name a place that can be read and written (--run-dir"),
        (over_a_file, "/taken: File exists; name a place that can be read and written (--run-dir"),
        (onto_a_full_device, "the output: No space left on device; free some space there, or"),
        (beyond_the_size_of_files, "/taken: File too large; free some space there, or"),
        (copied_to_a_full_disk, "/taken/one: [Errno 28] No space left on device"),
    ],
)
def test_a_file_that_is_refused_is_named_with_the_cure(
    write: Callable[[Path], None],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("local.control.views.print_list", lambda *_: write(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(["kernel", "list"])
    printed = capsys.readouterr().err
    assert ended.value.code == 2
    assert said in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1


def test_an_error_of_the_program_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "x")

    monkeypatch.setattr("local.control.views.print_list", broken)
    with pytest.raises(FileNotFoundError):
        main(["kernel", "list"])


def test_a_folder_that_cannot_be_made_is_refused_before_the_replay_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "replays").write_text("a file where a folder must be")
    with pytest.raises(SystemExit) as ended:
        main(["--run-dir", str(tmp_path), "--bootstrap", "127.0.0.1:1", "replay-log", "--group", "main", "--into", "x"])
    assert ended.value.code == 2
    assert f"{tmp_path}/replays/x/main: Not a directory; name a place" in capsys.readouterr().err
