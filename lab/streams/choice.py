"""Which stream is played: a script, a log, or MovieLens 100K if nothing is said."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lab.progress import bars, reporter
from lab.streams import StreamError, find_script
from lab.streams.logged import movielens
from lab.streams.logged.movielens import MovieLens
from lab.streams.recording import Recording, StreamRecording
from lab.streams.sources import Source, log_source
from streaming.config import Config


@dataclass(frozen=True)
class StreamChoice:
    """What the command line says of the stream."""

    script: str | None = None
    """A drift script: a file, or the name of one that comes with the package."""
    log: Path | None = None
    """A log, or the folder of a public data set."""
    mapping: str | None = None
    """A mapping file, or the name of a public data set."""
    archive: Path | None = None
    """The official MovieLens archive, instead of the package index."""

    @property
    def arguments(self) -> str:
        """The same choice as a user types it; empty for MovieLens 100K."""
        said = (("--script", self.script), ("--log", self.log), ("--mapping", self.mapping))
        return " ".join(f"{option} {shlex.quote(str(value))}" for option, value in said if value is not None)

    def source(self) -> Source | None:
        """The stream that is meant, not opened yet; None for MovieLens 100K. Raises StreamError."""
        logged = self.log is not None or self.mapping is not None
        if self.script is not None and logged:
            raise StreamError("one stream at a time: give --script, or --log with --mapping")
        if logged and self.archive is not None:
            raise StreamError("--archive is MovieLens 100K, for itself and for scripts; a log does not read it")
        if logged:
            return log_source(self.log, self.mapping)
        if self.script is None:
            return None
        script = find_script(self.script)
        return Source(script.name, script=script)


def open_recording(config: Config, choice: StreamChoice, console: Console) -> Recording:
    """The chosen stream; what it is made of is fetched into the cache the first time.

    Raises StreamError or DataUnavailableError; each message names the cure.
    """
    source = choice.source()
    if source is None:
        return load_data(config, console, choice.archive)
    kind = "script" if source.script else "log"
    with bars(console) as progress:
        task = progress.add_task("data", total=None, note=f"{kind} {source.name}")
        stream = source.open(0, config.cache_dir, archive=choice.archive, progress=reporter(progress, task))
        recording = StreamRecording(stream, f"{kind.capitalize()} {stream.name}")
        size = stream.size("live")
        held = f"{len(recording.users):,} users, {len(recording.items):,} items"
        progress.update(task, completed=size, total=size, note=f"{kind} {stream.name}: {held}")
    return recording


def load_data(config: Config, console: Console, archive: Path | None = None) -> MovieLens:
    """MovieLens 100K, fetched into the cache the first time. Raises DataUnavailableError."""
    with bars(console) as progress:
        task = progress.add_task("data", total=None, note="MovieLens 100K")
        folder = movielens.fetch(config.cache_dir, reporter(progress, task), archive=archive)
        data = movielens.load(folder)
        size = len(data.ratings)
        progress.update(task, completed=size, total=size, note=f"{len(data.users):,} users, {len(data.items):,} items")
    return data
