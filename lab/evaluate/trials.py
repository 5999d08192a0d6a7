"""Trials of a comparison, run in several processes and stored, so that a later call continues an interrupted one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import msgspec
from rich.console import Console

from lab.code_key import code_digest
from lab.evaluate.plan import Plan
from lab.evaluate.pool import run_tasks, workers
from lab.progress import bars
from lab.streams.sources import Source
from model.whole_files import write_whole

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


class StreamTrial(Protocol):
    """The result for one stream and seed."""

    @property
    def stream(self) -> str:
        """Name of the stream."""

    @property
    def seed(self) -> int:
        """The seed of stream and model."""


Trial = TypeVar("Trial", bound=StreamTrial)
Kept = TypeVar("Kept", bound="DataclassInstance")


def run_trials(
    plan: Plan,
    work: Callable[..., Trial],
    tasks: Sequence[tuple[Any, ...]],
    processes: int,
    console: Console,
    *,
    title: str,
    note: Callable[[Trial], str] = lambda _: "",
) -> list[Trial]:
    """Results of `work(plan, *task)`, in the order in which they come.

    The progress bar is called `title` and shows for each trial its stream, its seed and what `note` adds. Raises
    EvaluationFailedError; stored trials are used by the next call.
    """
    trials = []
    with workers(processes, None), bars(console) as progress:
        bar = progress.add_task(title, total=len(tasks), note="")
        for trial in run_tasks(plan, work, tasks):
            progress.update(bar, advance=1, note=f"{trial.stream}, seed {trial.seed}{note(trial)}")
            trials.append(trial)
    return trials


def trial_path(plan: Plan, source: Source, seed: int, module: str, name: str) -> Path:
    """Path of the trial `name` of one stream and seed; it changes with the code of `module`."""
    digest = hashlib.sha256((plan.key + code_digest(module)).encode()).hexdigest()[:16]
    return plan.folder(source, seed) / f"{name}-{digest}.json"


def kept_trial(path: Path, kind: type[Kept], make: Callable[[], Kept]) -> Kept:
    """Reads the trial at `path`; if there is none or it cannot be read, `make` runs it and the result is stored."""
    trial: Kept = _kept(path, kind, make, asdict)
    return trial


def kept_trials(path: Path, kind: type[Kept], make: Callable[[], list[Kept]]) -> list[Kept]:
    """The same for several trials that one run gives."""
    trials: list[Kept] = _kept(path, list[kind], make, lambda made: [asdict(trial) for trial in made])  # type: ignore[valid-type]
    return trials


def _kept(path: Path, kind: type[Any], make: Callable[[], Any], plain: Callable[[Any], Any]) -> Any:
    try:
        return msgspec.convert(json.loads(path.read_text(encoding="utf-8")), kind)
    except (FileNotFoundError, ValueError, msgspec.ValidationError):
        made = make()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, json.dumps(plain(made)) + "\n")
    return made
