"""Atomic writes of files and folders, used by every writer of the project.

A file or folder is written under a temporary name beside its place until it is complete and on the disk; one rename
then puts it there. A crash, a full disk or a second writer leaves the old content in place.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

DIGESTS = "digests.json"
"""File with the SHA-256 of every other file of a folder, by its name within the folder."""


def write_whole(path: Path, data: bytes | str) -> None:
    """Writes `data` (text in UTF-8) to `path`, replacing what is there. Raises OSError."""
    with whole_file(path) as file:
        file.write(data.encode() if isinstance(data, str) else data)


@contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write that replaces `path` when the block ends well, and is removed if the block raises. Raises
    OSError.

    The folder of `path` must exist. If `path` is a symbolic link, the file it leads to is replaced. An error names
    `path`.
    """
    path = path.resolve()
    scratch = _beside(path)
    try:
        with scratch.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else a crash of the machine may leave an empty file under the new name
        scratch.replace(path)
    except BaseException as error:
        scratch.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(scratch)):
            error.filename = str(path)  # a full disk names no file, and nobody knows the temporary name
        raise
    _sync(path.parent)


@contextmanager
def whole_folder(path: Path, *, finished: str | None = None) -> Iterator[Path]:
    """An empty folder to fill that becomes `path` when the block ends well, and is removed if the block raises.

    A folder that is at `path` by then is replaced, unless it holds the file `finished`: then another writer of the same
    content was faster, its folder stays and this one is dropped. A replacement takes two renames; if the process is
    killed between them, there is no folder at `path`, and the old one is beside it as `.NAME.old-...`. Raises OSError.
    """
    path = path.resolve()
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = _beside(path)
    scratch.mkdir()
    try:
        yield scratch
        for part in scratch.rglob("*"):
            _sync(part)
        _sync(scratch)
        _put(scratch, path, finished)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    _sync(path.parent)


def write_digests(folder: Path) -> None:
    """Stores the digests of the files in `folder`, so that `changed_files` can compare later. Raises OSError."""
    write_whole(folder / DIGESTS, json.dumps(_digests(folder), indent=2, sort_keys=True))


def changed_files(folder: Path) -> list[str]:
    """Files of `folder` that differ from what `write_digests` saw: changed, missing or new. Raises OSError.

    Contents are compared, because size and time of a damaged file may be unchanged. In a folder without readable
    digests, every file counts as changed.
    """
    try:
        noted = json.loads((folder / DIGESTS).read_bytes())
    except (FileNotFoundError, ValueError):
        return [DIGESTS]
    found = _digests(folder)
    if not isinstance(noted, dict):
        return [DIGESTS]
    return sorted(name for name in noted.keys() | found.keys() if noted.get(name) != found.get(name))


def _digests(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != DIGESTS
    }


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _put(scratch: Path, path: Path, finished: str | None) -> None:
    if finished is not None and (path / finished).is_file():
        shutil.rmtree(scratch)
        return
    old = path.with_name(f".{path.name[:100]}.old-{uuid.uuid4().hex}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(old)
    try:
        scratch.rename(path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(path: Path) -> Path:
    """A free hidden name in the same folder, and so on the same disk, short enough for every file system."""
    return path.with_name(f".making-{uuid.uuid4().hex}")


def _sync(path: Path) -> None:
    with contextlib.suppress(OSError):  # some file systems do not sync folders
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
