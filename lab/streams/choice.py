"""The choice of the stream that is played: a script, a log, or MovieLens 100K if none is named."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from lab.progress import bars, reporter
from lab.streams import StreamError, find_script
from lab.streams.logged.movielens_stream import MOVIELENS_STREAMS
from lab.streams.recording import Recording
from lab.streams.sources import Source, log_source, movielens_source
from streaming.config import Config


@dataclass(frozen=True)
class StreamChoice:
    """The stream options of the command line."""

    script: str | None = None
    """A drift script: a file, or the name of one that comes with the package."""
    log: Path | None = None
    """A log, or the folder of a public data set."""
    mapping: str | None = None
    """A mapping file, or the name of a public data set, `movielens-100k` and `movielens-sessions` among them."""
    archive: Path | None = None
    """The official MovieLens archive, instead of the package index."""

    @property
    def named(self) -> bool:
        """Whether a stream was named at all."""
        return self.script is not None or self.log is not None or self.mapping is not None

    @property
    def arguments(self) -> str:
        """The same choice as a user types it; empty if none was named."""
        options = (("--script", self.script), ("--log", self.log), ("--mapping", self.mapping))
        return " ".join(f"{option} {shlex.quote(str(value))}" for option, value in options if value is not None)

    def source(self) -> Source:
        """The stream that is meant, not opened yet: MovieLens 100K if none was named. Raises StreamError."""
        logged = self.log is not None or self.mapping is not None
        if self.script is not None and logged:
            raise StreamError("one stream at a time: give --script, or --log with --mapping")
        if self.archive is not None and logged and self.mapping not in MOVIELENS_STREAMS:
            raise StreamError("--archive is MovieLens 100K, for itself and for scripts; a log does not read it")
        if self.script is not None:
            script = find_script(self.script)
            return Source(script.name, script=script)
        return log_source(self.log, self.mapping) if self.named else movielens_source()


def open_recording(config: Config, choice: StreamChoice, console: Console, seed: int = 0) -> Recording:
    """The chosen stream of a seed; what it is made of is fetched into the cache the first time.

    Raises StreamError or DataUnavailableError; each message names the cure.
    """
    source = choice.source()
    with bars(console) as progress:
        task = progress.add_task("data", total=None, note=source.title(source.name))
        stream = source.open(seed, config.cache_dir, archive=choice.archive, progress=reporter(progress, task))
        recording = Recording(stream, source.title(stream.name))
        size = stream.size("live")
        note = f"{recording.title}: {len(recording.users):,} users, {len(recording.items):,} items"
        progress.update(task, completed=size, total=size, note=note)
    return recording
