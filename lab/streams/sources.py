"""Names of streams by suite, script or log; they are opened later and can be pickled for workers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from features.config import FeatureConfig
from lab.streams import (
    RealItems,
    Script,
    ScriptedStream,
    Stream,
    StreamError,
    find_script,
    standard_suite,
    unmatched_suite,
)
from lab.streams.logged.datasets import DATASETS
from lab.streams.logged.logs import log_files, open_log
from lab.streams.logged.movielens import Progress, fetch, load
from lab.streams.logged.movielens_stream import MOVIELENS, MOVIELENS_STREAMS, MOVIELENS_TITLES
from model.near_names import did_you_mean

SUITES = ("standard", "scripted", "unmatched", *MOVIELENS_STREAMS)
QUICK_STREAMS = ("abrupt", "no-drift")
QUICK_REQUESTS, QUICK_PRETRAIN = 1_500, 3_000


@dataclass(frozen=True)
class NamedStreams:
    """The streams that a user names; several ways of naming add up."""

    suite: str | None = None
    """One of `SUITES`."""
    script: Path | None = None
    """A drift script: a file, or the name of one that comes with the package."""
    log: Path | None = None
    """A log, or the folder of a public data set."""
    mapping: str | None = None
    """A mapping file, or the name of a public data set."""

    def __bool__(self) -> bool:
        """Whether any is named."""
        return any((self.suite, self.script, self.log, self.mapping))


@dataclass(frozen=True)
class Source:
    """One stream by name: a script, a log with its mapping, or a public data set."""

    name: str
    script: Script | None = None
    log: Path | None = None
    mapping: Path | None = None
    dataset: str = ""
    """Name in `DATASETS` or `MOVIELENS_STREAMS`."""

    def title(self, name: str) -> str:
        """Name for people; `name` is the opened stream's, which a mapping may give."""
        if self.dataset in MOVIELENS_STREAMS:
            return "MovieLens 100K" + MOVIELENS_TITLES[self.dataset]
        return f"{'Script' if self.script is not None else 'Log'} {name}"

    @property
    def seeded(self) -> bool:
        """Whether another seed gives another stream. For a log only the models change."""
        return self.script is not None

    def describe(self) -> str:
        """Everything that decides the stream, the content of its files too, for the key of kept work.

        Raises StreamError for files that cannot be read.
        """
        parts = [self.script.model_dump_json() if self.script else "", self.dataset]
        return "|".join([*parts, *(_digest(path) for path in self._files())])

    def _files(self) -> list[Path]:
        """The user's own files."""
        if self.mapping is not None:
            return log_files(self.mapping, self.log)
        if self.log is None:
            return []
        return [self.log] if self.log.is_file() else sorted(path for path in self.log.rglob("*") if path.is_file())

    def open(
        self, seed: int, cache_dir: Path, *, archive: Path | None = None, progress: Progress | None = None
    ) -> Stream:
        """The stream of a seed. Raises StreamError or DataUnavailableError.

        `archive` is a copy of the official MovieLens archive; `progress` gets bytes if the data have to be fetched.
        """
        if self.script is not None:
            script = self.script.model_copy(update={"seed": self.script.seed + seed})
            return ScriptedStream(
                script, RealItems.of(load(fetch(cache_dir, progress, archive=archive)), FeatureConfig())
            )
        if self.dataset in MOVIELENS_STREAMS:
            return MOVIELENS_STREAMS[self.dataset](load(fetch(cache_dir, progress, archive=archive)))
        if self.dataset and self.log is not None:
            return DATASETS[self.dataset](self.log)
        if self.mapping is None:
            raise StreamError(f"log {self.log}: it needs --mapping FILE (or the name of a public data set)")
        return open_log(self.mapping, self.log)


def choose(named: NamedStreams, *, quick: bool) -> list[Source]:
    """The streams that are named; the standard suite if none is. Raises StreamError."""
    sources: list[Source] = []
    if named.script is not None:
        loaded = find_script(str(named.script))
        sources.append(Source(loaded.name, script=loaded))
    if named.mapping is not None or named.log is not None:
        sources.append(log_source(named.log, named.mapping))
    if named.suite is not None or not sources:
        sources.extend(_suite(named.suite or "standard"))
    if not quick:
        return sources
    whole_suite = named == NamedStreams(named.suite) and named.suite not in MOVIELENS_STREAMS
    return [shortened(s) for s in sources if not whole_suite or s.name in QUICK_STREAMS]


def _suite(name: str) -> list[Source]:
    if name not in SUITES:
        raise StreamError(f"no suite {name!r}; there are {', '.join(SUITES)}{did_you_mean(name, SUITES)}")
    scripted, unmatched = (
        [Source(script.name, script=script) for script in suite().values()]
        for suite in (standard_suite, unmatched_suite)
    )
    real = {of: [movielens_source(of)] for of in MOVIELENS_STREAMS}
    return {"standard": scripted + real[MOVIELENS], "scripted": scripted, "unmatched": unmatched, **real}[name]


def log_source(log: Path | None, mapping: str | None) -> Source:
    """The stream of a log, with a mapping file or the name of a public data set. Raises StreamError."""
    if mapping is None:
        raise StreamError(f"log {log}: it needs --mapping FILE, or --mapping with one of {', '.join(DATASETS)}")
    if mapping in MOVIELENS_STREAMS:
        if log is not None:
            raise StreamError(f"data set {mapping} is fetched: leave --log out (--archive names a copy of your own)")
        return movielens_source(mapping)
    if mapping in DATASETS:
        if log is None:
            raise StreamError(f"data set {mapping}: name the folder you downloaded by --log FOLDER")
        if not log.exists():
            raise StreamError(f"{log}: no such folder; name the one you downloaded {mapping} to by --log FOLDER")
        return Source(mapping, log=log, dataset=mapping)
    path = Path(mapping)
    if not (path.exists() or path.suffix or path.name != mapping):
        known = (*MOVIELENS_STREAMS, *DATASETS)
        raise StreamError(
            f"no mapping {mapping!r}: there is no such file, and the data sets known by name are {', '.join(known)}"
            f"{did_you_mean(mapping, known)}"
        )
    log_files(path, log)  # a missing file is found now, and not by each worker after it has started
    return Source(path.stem, log=log, mapping=path)


def movielens_source(name: str = MOVIELENS) -> Source:
    """MovieLens 100K, which is fetched, played in one of the ways of `MOVIELENS_STREAMS`."""
    return Source(name, dataset=name)


def shortened(source: Source) -> Source:
    """A script with fewer requests, for a short look; a log is unchanged."""
    if source.script is None:
        return source
    fewer = {
        "requests": min(source.script.requests, QUICK_REQUESTS),
        "pretrain_requests": min(source.script.pretrain_requests, QUICK_PRETRAIN),
    }
    return Source(source.name, script=source.script.model_copy(update=fewer))


def _digest(path: Path) -> str:
    """A file's name and the hash of its bytes."""
    try:
        known = path.stat()
        return f"{path.name} {_hashed(path.absolute(), known.st_size, known.st_mtime_ns)}"
    except OSError as error:
        raise StreamError(f"{path}: {error.strerror or error}") from error


@lru_cache(maxsize=1_024)
def _hashed(path: Path, size: int, changed_ns: int) -> str:
    """Hash of a file that is as it was when it had that size and time: a large log is not read for every trial."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
