"""The broker's class path: 46 jars by a pinned list, fetched once, each checked against its SHA-256."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from local.broker.errors import BadHash, BrokerError, CacheUnwritable, FetchFailed
from model.whole_files import sha256_of, whole_file

log = logging.getLogger(__name__)

KAFKA_VERSION = "4.3.1"
THREADS = 8
FETCH_TIMEOUT_S = 30


@dataclass(frozen=True)
class Jar:
    """One line of the jar list."""

    coordinate: str
    """Maven coordinate `group:artifact:version`."""
    sha256: str

    @property
    def filename(self) -> str:
        """Name of the file in the cache."""
        _, artifact, version = self.coordinate.split(":")
        return f"{artifact}-{version}.jar"


def jar_list() -> tuple[Jar, ...]:
    """The pinned jars, in the order of the class path. Raises ValueError for a line that is none."""
    text = files("local.broker").joinpath("kafka-jars.txt").read_text(encoding="utf-8")
    return tuple(_parse(line) for line in text.splitlines() if line.strip() and not line.startswith("#"))


def _parse(line: str) -> Jar:
    coordinate, _, sha256 = line.partition(" sha256:")
    if coordinate.count(":") != 2 or len(sha256) != 64:
        raise ValueError(f"the jar list has a line that is no `group:artifact:version sha256:...`: {line!r}")
    return Jar(coordinate, sha256)


def class_path(cache_dir: Path, jars: Sequence[Jar], console: Console | None = None) -> list[Path]:
    """The jars in `cache_dir/kafka-<version>/`, fetched if they are not there yet.

    Every file is hashed at every use, in a fifth of a second: size and time of a changed one may be what they were
    (docs/decisions/0010). Raises BadHash, FetchFailed, CacheUnwritable.
    """
    folder = cache_dir / f"kafka-{KAFKA_VERSION}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = _missing(folder, jars)
        if missing:
            _fetch_all(folder, missing, len(jars), console)
    except OSError as error:
        raise CacheUnwritable(folder, error) from error
    return [folder / jar.filename for jar in jars]


def _missing(folder: Path, jars: Sequence[Jar]) -> list[Jar]:
    """Jars that are missing or differ from the pinned hash."""
    missing = []
    for jar in jars:
        path = folder / jar.filename
        if path.is_file() and sha256_of(path) == jar.sha256:
            continue
        if path.is_file():
            log.warning("%s in the jar cache is damaged; it is fetched again", path)
        missing.append(jar)
    return missing


def _fetch_all(folder: Path, missing: Sequence[Jar], total: int, console: Console | None) -> None:
    # The list is fetched unchanged and never resolved (docs/decisions/0010), because a resolver picks other versions.
    # jgo leaves half a file in its cache when the connection breaks, so each run has its own and moves whole files.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as part, _progress(console) as progress:
        bar = progress.add_task(f"Kafka {KAFKA_VERSION} jars", total=len(missing))
        failed: dict[str, Exception] = {}
        pool = ThreadPoolExecutor(THREADS, thread_name_prefix="fetch-jar")
        try:
            pending = {pool.submit(_fetch, jar, Path(part), folder): jar for jar in missing}
            for done in as_completed(pending):
                problem = done.exception()
                if isinstance(problem, BrokerError):
                    raise problem
                if isinstance(problem, Exception):
                    failed[pending[done].coordinate] = problem
                elif problem is not None:
                    raise problem
                progress.advance(bar)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    if failed:
        first = next(iter(failed.values()))
        if isinstance(first, OSError) and first.errno is not None and first.filename:
            raise first
        raise FetchFailed(sorted(failed), total, first, folder)


@contextmanager
def _progress(console: Console | None) -> Iterator[Progress]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console or Console(stderr=True)) as progress:
        yield progress


def _fetch(jar: Jar, part: Path, folder: Path) -> None:
    path = _download(jar, part)
    actual = sha256_of(path)
    if actual != jar.sha256:
        path.unlink()
        raise BadHash(jar.coordinate, jar.sha256, actual)
    with path.open("rb") as source, whole_file(folder / jar.filename) as file:
        shutil.copyfileobj(source, file)


def _download(jar: Jar, part: Path) -> Path:
    from jgo.maven import MavenContext

    artifact: Path = (
        MavenContext(repo_cache=part, timeout=FETCH_TIMEOUT_S).create_dependency(jar.coordinate).artifact.resolve()
    )
    return artifact
