"""The pinned jars and the cache they are kept in."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from local.broker import jars
from local.broker.errors import BadHash, CacheUnwritable, FetchFailed
from local.broker.jars import KAFKA_VERSION, Jar, class_path, jar_list

QUIET = Console(quiet=True)

Fetch = Callable[[str], bytes]


def a_jar(name: str, content: bytes) -> Jar:
    return Jar(f"org.example:{name}:1.0", hashlib.sha256(content).hexdigest())


class Remote:
    """Stands for the package repository: gives each coordinate's bytes, counts the calls."""

    def __init__(self, content: dict[str, bytes]) -> None:
        self.content = content
        self.calls: list[str] = []
        self._lock = threading.Lock()

    def fetch(self, jar: Jar, part: Path) -> Path:
        with self._lock:
            self.calls.append(jar.coordinate)
        name = jar.coordinate.split(":")[1]
        if name not in self.content:
            raise RuntimeError("404")
        path = part / jar.filename
        path.write_bytes(self.content[name])
        return path


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> Remote:
    remote = Remote({"a": b"AAA", "b": b"BBB"})
    monkeypatch.setattr(jars, "_download", remote.fetch)
    return remote


A, B = a_jar("a", b"AAA"), a_jar("b", b"BBB")


def test_the_list_pins_the_46_jars_of_kafka_by_their_hashes() -> None:
    pinned = jar_list()
    assert len(pinned) == len({jar.filename for jar in pinned}) == 46
    assert f"kafka_2.13-{KAFKA_VERSION}.jar" in {jar.filename for jar in pinned}


@pytest.mark.parametrize(
    "line", ["org.example:a", "org.example:a:1.0 sha256:short", "org.example:a sha256:" + "0" * 64]
)
def test_a_line_without_a_hash_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="jar list has a line"):
        jars._parse(line)


def test_jars_are_fetched_once_and_then_come_from_the_cache(tmp_path: Path, remote: Remote) -> None:
    paths = class_path(tmp_path, [A, B], QUIET)
    assert [path.read_bytes() for path in paths] == [b"AAA", b"BBB"]
    assert class_path(tmp_path, [A, B], QUIET) == paths
    assert sorted(remote.calls) == [A.coordinate, B.coordinate]
    assert not list(paths[0].parent.glob(".fetch-*"))


def test_a_changed_jar_of_equal_size_and_time_is_fetched_again(tmp_path: Path, remote: Remote) -> None:
    (path, _) = class_path(tmp_path, [A, B], QUIET)
    before = path.stat()
    path.write_bytes(b"AxA")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert class_path(tmp_path, [A, B], QUIET)[0].read_bytes() == b"AAA"
    assert sorted(remote.calls) == [A.coordinate, A.coordinate, B.coordinate]


def test_a_damaged_cached_jar_is_fetched_again(tmp_path: Path, remote: Remote) -> None:
    (path, _) = class_path(tmp_path, [A, B], QUIET)
    path.write_bytes(b"AAx")
    assert class_path(tmp_path, [A, B], QUIET)[0].read_bytes() == b"AAA"
    assert remote.calls.count(A.coordinate) == 2


def test_a_jar_with_another_hash_is_refused_by_name_and_not_kept(tmp_path: Path, remote: Remote) -> None:
    remote.content["b"] = b"evil"
    with pytest.raises(BadHash, match=r"org\.example:b:1\.0 has SHA-256 .* the list pins"):
        class_path(tmp_path, [A, B], QUIET)
    assert not (tmp_path / f"kafka-{KAFKA_VERSION}" / B.filename).exists()


def test_without_a_network_the_error_lists_missing_jars_and_fetched_jars_are_kept(
    tmp_path: Path, remote: Remote
) -> None:
    del remote.content["b"]
    with pytest.raises(FetchFailed, match=r"1 of 2 .* first org\.example:b:1\.0 .*check the network"):
        class_path(tmp_path, [A, B], QUIET)
    remote.content["b"] = b"BBB"
    class_path(tmp_path, [A, B], QUIET)
    assert remote.calls.count(A.coordinate) == 1


def test_an_unwritable_cache_is_reported_by_name(tmp_path: Path, remote: Remote) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(CacheUnwritable, match="choose another folder"):
        class_path(blocked, [A], QUIET)
