"""Reading files that users give: whatever is wrong with one is reported with file, line and cure."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

from lab.streams.stream import StreamError

_DAMAGED = (EOFError, zlib.error, zipfile.BadZipFile, lzma.LZMAError)
_GZIP_MAGIC = b"\x1f\x8b"
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),  # before UTF-16, whose mark begins it
    (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"),
)  # fmt: skip
_PACKED = {b"BZh": "bzip2", b"PK\3\4": "zip", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_PACKED_NAMES = {
    ".bz2": "bzip2", ".zip": "zip", ".xz": "xz", ".zst": "zstd", ".lz4": "lz4", ".7z": "7-Zip", ".tar": "tar",
    ".tgz": "tar",
}  # fmt: skip
_PARQUET_MAGIC = b"PAR1"
_BEGIN = 6
"""Bytes by which a file's kind is guessed."""


def read_text(path: Path, purpose: str) -> str:
    """The text of a small UTF-8 file, without a byte-order mark. Raises StreamError; `what` names its purpose."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StreamError(f"{purpose} {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise StreamError(f"{purpose} {_undecodable(path, 'utf-8')}: save the file as UTF-8") from error


def open_text(path: Path, encoding: str) -> IO[str]:
    """A text file, compressed if its name ends in `.gz`; a byte-order mark is passed over. Raises OSError."""
    return io.TextIOWrapper(_open_bytes(path), encoding=without_mark(encoding))


def without_mark(encoding: str) -> str:
    """`encoding`, or the form of UTF-8 that passes over a byte-order mark, as spreadsheets write it."""
    return "utf-8-sig" if codecs.lookup(encoding).name == "utf-8" else encoding


@contextmanager
def file_errors(path: Path, kind: str, encoding: str = "utf-8", cure: str = "set `format`") -> Iterator[None]:
    """Turn every error of reading `path` as `kind` into a StreamError with the cure.

    A reader's errors come from several libraries below it: decompression, decoding, parsing. None may go past.
    """
    try:
        yield
    except StreamError:
        raise
    except UnicodeDecodeError as error:
        raise StreamError(f"{_undecodable(path, encoding)}; {_decoding_cure(path)}") from error
    except _DAMAGED as error:
        raise StreamError(f"{path}: the file is cut or damaged ({error or 'it ends too early'}): {_AGAIN}") from error
    except gzip.BadGzipFile as error:
        raise StreamError(
            f"{path}: not compressed by gzip as its name says, or damaged ({error}): {_AGAIN}, or drop the .gz"
        ) from error
    except OSError as error:
        if error.strerror is None:  # not the system's word: a library found the content damaged
            raise StreamError(f"{path}: the file is cut or damaged ({error}): {_AGAIN}") from error
        raise StreamError(f"{path}: {error.strerror}") from error
    except (ValueError, TypeError, NotImplementedError, ArithmeticError, LookupError, csv.Error) as error:
        text = " ".join(str(error).split())
        raise StreamError(f"{path}: cannot be read as {kind}: {text}; {cure} in the mapping") from error


_AGAIN = "fetch or write it again"


def _open_bytes(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path, "rb")) if path.name.lower().endswith(".gz") else path.open("rb")


def zero_cure(path: Path) -> str:
    """What to do about a text file with a zero byte: name its encoding, or get it again."""
    cure = _decoding_cure(path)
    return cure if "utf-16" in cure else f"it is no text file, or damaged: {_AGAIN}"


def _undecodable(path: Path, encoding: str) -> str:
    """File, line and bytes at which decoding fails first."""
    try:
        with _open_bytes(path) as lines:
            for number, line in enumerate(lines, 1):
                try:
                    line.decode(encoding)
                except UnicodeDecodeError as error:
                    bytes_around = line[max(error.start - 10, 0) : error.end + 10]
                    return f"{path}, line {number}: {bytes_around!r} is not {encoding}"
    except (OSError, *_DAMAGED):
        pass
    return f"{path}: it is not {encoding}"


def packed_name(path: Path) -> str | None:
    """The cure for a file whose name says that it is packed by something else than gzip; None for any other."""
    packer = _PACKED_NAMES.get(path.suffix.lower())
    return None if packer is None else _unpack(packer)


def _unpack(packer: str) -> str:
    return f"it is packed by {packer}: unpack it, or pack it by gzip"


def _by_zeros(begin: bytes) -> str:
    """UTF-16 without a mark has a zero in every second byte of Latin text; any other encoding is guessed."""
    if len(begin) == _BEGIN and not any(begin[1::2]) and all(begin[::2]):
        return "utf-16-le"
    return "utf-16-be" if len(begin) == _BEGIN and not any(begin[::2]) and all(begin[1::2]) else "latin-1"


def _decoding_cure(path: Path) -> str:
    try:
        with _open_bytes(path) as file:
            begin = file.read(_BEGIN)
    except (OSError, *_DAMAGED):
        begin = b""
    if begin.startswith(_GZIP_MAGIC):
        twice = path.name.lower().endswith(".gz")
        return "it is compressed twice: unpack it once" if twice else "it is compressed: let its name end in .gz"
    if begin.startswith(_PARQUET_MAGIC):
        return "it is Parquet: set `format` in the mapping to parquet"
    for magic, packer in _PACKED.items():
        if begin.startswith(magic):
            return _unpack(packer)
    guess = next((encoding for mark, encoding in _MARKS if begin.startswith(mark)), _by_zeros(begin))
    return f"save the file as UTF-8, or set `encoding` in the mapping, for instance {guess}"
