"""Runs a plan on several processes, here or on a Dask cluster, with progress and without losing what was done."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor
from rich.console import Console

from lab.evaluate.plan import Plan
from lab.evaluate.seed_results import SeedResult, measure_seed
from lab.evaluate.work import close_stream, prepare_stream, run_adapter
from lab.progress import bars
from lab.starter import end_with_starter
from lab.streams.sources import Source

Result = TypeVar("Result")
Pair = tuple[Source, int]


class OutFolderError(Exception):
    """The folder of the report cannot be written; the message names it and the cure."""


def ensure_writable(out: Path) -> None:
    """Makes `out` and tries it with a small file, before hours of work end at it. Raises OutFolderError."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=out) as file:
            file.write(bytes(65_536))
            file.flush()
    except OSError as error:
        reason = error.strerror or error
        raise OutFolderError(f"--out {out}: {reason}; name a folder that can be written and has room") from error


class EvaluationFailedError(Exception):
    """A task failed or its worker died; the message names both. What was finished before is kept."""


class ClusterUnavailableError(Exception):
    """The Dask cluster cannot be used; the message names the cure."""


def execute(
    plan: Plan, console: Console, processes: int, cluster: str | None = None
) -> dict[tuple[str, int], SeedResult]:
    """Prepares all streams, runs all adapters, then measures: results by name of the stream and seed.

    `cluster` is the address of a Dask scheduler whose workers take the place of `processes` here; they need the same
    code and see the same folders. Raises EvaluationFailedError (finished work stays for the next call) or
    ClusterUnavailableError.
    """
    pairs = [(source, seed) for seed in plan.seeds for source in plan.sources]
    runs = [(*pair, name) for pair in _longest_first(pairs) for name in plan.adapters]
    with workers(processes, cluster), bars(console) as progress:
        first = progress.add_task("streams", total=len(pairs), note="pretraining, representations, live features")
        second = progress.add_task("runs", total=len(runs), note=f"{len(plan.adapters)} adapters, {len(pairs)} streams")
        third = progress.add_task("measures", total=len(pairs), note="AUC and the rest, of every run")
        for _ in run_tasks(plan, prepare_stream, _spread_seeds(pairs)):
            progress.advance(first)
        for stream, seed, adapter in run_tasks(plan, run_adapter, runs):
            progress.update(second, advance=1, note=f"{stream}, seed {seed}: {adapter}")
        results = {}
        for result in run_tasks(plan, measure_seed, pairs):
            results[result.stream, result.seed] = result
            progress.advance(third)
    return results


def _spread_seeds(pairs: list[Pair]) -> list[Pair]:
    """Streams of one seed may share a backbone: seeds are spread, so that no two processes train the same at once."""
    return sorted(pairs, key=lambda pair: pair[0].name)


def _longest_first(pairs: list[Pair]) -> list[Pair]:
    """Recorded logs, then scripts by length: a long one at the end would keep one process busy and the others idle."""
    return sorted(pairs, key=lambda pair: -math.inf if pair[0].script is None else -pair[0].script.requests)


def run_tasks(plan: Plan, work: Callable[..., Result], tasks: Iterable[tuple[Any, ...]]) -> Iterator[Result]:
    """Results of `work(plan, *task)` as they come. Raises EvaluationFailedError; joblib then ends the other tasks."""
    try:
        yield from Parallel(return_as="generator_unordered")(delayed(_named)(work, plan, *task) for task in tasks)
    except EvaluationFailedError:
        raise
    except Exception as error:  # loky and Dask have classes of their own for a worker that died
        raise EvaluationFailedError(f"a worker process ended: {error}; {_kept(plan)}") from error
    finally:
        close_stream()  # with one process, joblib works in this one


def _named(work: Callable[..., Result], plan: Plan, source: Source, seed: int, *rest: object) -> Result:
    """Runs the work in a worker; names stream, seed and arguments, such as the adapter, in the error if it fails."""
    try:
        return work(plan, source, seed, *rest)
    except Exception as error:
        task = ", ".join([f"stream {source.name}", f"seed {seed}", *map(str, rest)])
        raise EvaluationFailedError(f"{task}: {error}; {_kept(plan)}") from error


def _kept(plan: Plan) -> str:
    return f"finished runs are kept in {plan.work_dir}, call again to go on"


@contextmanager
def workers(processes: int, cluster: str | None) -> Iterator[None]:
    """joblib's backend: processes on this machine, or the workers of a Dask scheduler."""
    if cluster is None:
        try:
            with parallel_config("loky", n_jobs=processes, initializer=end_with_starter, initargs=(os.getpid(),)):
                yield
        finally:
            # Idle workers would stay for minutes, with all that they hold; killed, they cannot print at their end.
            get_reusable_executor(reuse=True).shutdown(wait=True, kill_workers=True)
        return
    try:
        from distributed import Client
    except ImportError as error:
        raise ClusterUnavailableError(
            "a Dask cluster needs the package distributed: pip install distributed"
        ) from error
    try:
        client = Client(cluster)
    except (OSError, ValueError) as error:
        raise ClusterUnavailableError(
            f"no Dask scheduler answers at {cluster}: start one with `dask scheduler` and workers with "
            "`dask worker --nthreads 1 ADDRESS`"
        ) from error
    with client, parallel_config("dask", n_jobs=-1):
        yield
