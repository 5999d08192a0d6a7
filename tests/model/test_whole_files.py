"""What is written is there whole, or what was there before is."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.whole_files import whole_file, whole_folder, write_whole

ROOT = Path(__file__).resolve().parents[2]


class GaveUpError(Exception):
    """A writer that does not come to its end."""


@given(st.binary() | st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_a_file_round_trips(tmp_path_factory: pytest.TempPathFactory, data: bytes | str) -> None:
    path = tmp_path_factory.mktemp("whole") / "file"
    write_whole(path, "what was there before")
    write_whole(path, data)
    assert path.read_bytes() == (data.encode() if isinstance(data, str) else data)
    assert list(path.parent.iterdir()) == [path]


def test_a_failed_write_leaves_only_the_old_file(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"old")
    with pytest.raises(GaveUpError), whole_file(tmp_path / "file") as file:
        file.write(b"half")
        raise GaveUpError
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_full_disk_leaves_only_the_old_file(tmp_path: Path) -> None:
    """A limit on the size of files fails a write in the middle, as a full disk does."""
    write_whole(tmp_path / "file", b"old")
    code = (
        "import sys; from pathlib import Path; from model.whole_files import write_whole\n"
        "write_whole(Path(sys.argv[1]), b'x' * 100_000)"
    )

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))

    command = [sys.executable, "-c", code, str(tmp_path / "file")]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert (tmp_path / "file").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_file_has_the_default_permissions(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_whole(tmp_path / "whole", b"")
    assert (tmp_path / "whole").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_name_of_the_maximal_length_is_written(tmp_path: Path) -> None:
    write_whole(tmp_path / ("n" * 255), b"long")
    assert (tmp_path / ("n" * 255)).read_bytes() == b"long"


def test_a_symbolic_link_is_preserved(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "file")
    write_whole(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "file").read_bytes() == b"new"


def filled(folder: Path, text: str, *, finished: str | None = None) -> None:
    with whole_folder(folder, finished=finished) as scratch:
        assert not folder.exists() or text not in {path.name for path in folder.iterdir()}
        (scratch / "below").mkdir()
        (scratch / text).write_text(text)
        (scratch / "below" / text).write_text(text)


def test_a_folder_appears_complete_and_replaces_the_old_one(tmp_path: Path) -> None:
    for text in ("one", "two"):
        filled(tmp_path / "folder", text)
        assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == sorted(["below", text])
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_finished_by_another_process_is_kept_and_an_unfinished_one_is_replaced(
    tmp_path: Path,
) -> None:
    filled(tmp_path / "folder", "card")
    filled(tmp_path / "folder", "ours", finished="card")
    assert (tmp_path / "folder" / "card").is_file()
    filled(tmp_path / "folder", "ours", finished="other card")
    assert (tmp_path / "folder" / "ours").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_failed_write_leaves_only_the_old_folder(tmp_path: Path) -> None:
    filled(tmp_path / "folder", "old")
    with pytest.raises(GaveUpError), whole_folder(tmp_path / "folder") as scratch:
        (scratch / "half").touch()
        raise GaveUpError
    assert (tmp_path / "folder" / "old").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_folder_that_cannot_be_moved_into_place_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    filled(tmp_path / "folder", "old")
    rename: Callable[[Path, Path], Path] = Path.rename

    def fails_for_the_new(self: Path, target: Path) -> Path:
        if self.name.startswith(".making-"):
            raise OSError(28, os.strerror(28))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new)
    with pytest.raises(OSError, match="No space"):
        filled(tmp_path / "folder", "new")
    assert (tmp_path / "folder" / "old").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize("package", ["driftline", "local", "lab", "streaming", "features", "model"])
def test_no_other_module_writes_files_directly(package: str) -> None:
    own_ways = re.compile(r"\b(mkstemp|mkdtemp|NamedTemporaryFile|os\.replace|os\.rename)\b|\.rename\(")
    for path in (ROOT / package).rglob("*.py"):
        if path.name != "whole_files.py":
            assert not own_ways.search(path.read_text(encoding="utf-8")), f"{path}: use model/whole_files.py"
