"""Runs a plan on several processes, with progress and without losing what was done."""

from __future__ import annotations

import math
import multiprocessing
import queue
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.queues import Queue
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress, TaskID

from lab.evaluate.plan import Plan
from lab.evaluate.report import SeedResult, measure_seed
from lab.evaluate.work import ensure_lab, run_stream
from lab.progress import bars
from lab.streams.sources import Source

Told = tuple[str, str, int]
Result = TypeVar("Result")


class EvaluationFailedError(Exception):
    """A run failed; the message names stream and seed. What was finished before is kept."""


_told: Queue[Told] | None = None


def execute(plan: Plan, console: Console, processes: int) -> dict[tuple[str, int], SeedResult]:
    """All backbones, all runs, then their measures, by name of the stream and seed.

    Raises EvaluationFailedError; finished work stays for the next call.
    """
    pairs = [(source, seed) for seed in plan.seeds for source in plan.sources]
    context = multiprocessing.get_context("spawn")
    told: Queue[Told] = context.Queue()
    total = len(pairs) * len(plan.adapters)
    with (
        bars(console) as progress,
        ProcessPoolExecutor(processes, mp_context=context, initializer=_receive, initargs=(told,)) as pool,
    ):
        first = progress.add_task("backbones", total=len(pairs), note="pretraining, once per seed and first half")
        second = progress.add_task("runs", total=total, note=f"{len(plan.adapters)} adapters, {len(pairs)} streams")
        _all(pool, _lab, plan, _alike_last(pairs), lambda: progress.advance(first))
        _all(pool, _runs, plan, _long_first(pairs), lambda: _drain(told, progress, second))
        _drain(told, progress, second)
        third = progress.add_task("measures", total=len(pairs), note="AUC and the rest, of every run")
        found = _all(pool, measure_seed, plan, pairs, lambda: progress.advance(third))
    return {(source.name, seed): result for (source, seed), result in found}


def _alike_last(pairs: list[tuple[Source, int]]) -> list[tuple[Source, int]]:
    """Streams of one seed may share a backbone: seeds are spread, so that no two processes train the same at once."""
    by_source: dict[str, list[tuple[Source, int]]] = {}
    for pair in pairs:
        by_source.setdefault(pair[0].name, []).append(pair)
    return [pair for group in by_source.values() for pair in group]


def _long_first(pairs: list[tuple[Source, int]]) -> list[tuple[Source, int]]:
    """Recorded logs, then scripts by length: a long one at the end would keep one process busy and the others idle."""
    return sorted(pairs, key=lambda pair: -math.inf if pair[0].script is None else -pair[0].script.requests)


def _all(
    pool: ProcessPoolExecutor,
    work: Callable[[Plan, Source, int], Result],
    plan: Plan,
    pairs: list[tuple[Source, int]],
    tick: Callable[[], None],
) -> list[tuple[tuple[Source, int], Result]]:
    found = []
    waiting: dict[Future[Result], tuple[Source, int]] = {pool.submit(work, plan, *pair): pair for pair in pairs}
    while waiting:
        finished, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
        for future in finished:
            source, seed = waiting.pop(future)
            error = future.exception()
            if error is not None:
                pool.shutdown(wait=False, cancel_futures=True)
                raise EvaluationFailedError(
                    f"stream {source.name}, seed {seed}: {error}; finished runs are kept in {plan.work_dir}, "
                    "call again to go on"
                ) from error
            found.append(((source, seed), future.result()))
            tick()
        if not finished and work is _runs:
            tick()
    return found


def _drain(told: Queue[Told], progress: Progress, task: TaskID) -> None:
    while True:
        try:
            stream, adapter, seed = told.get_nowait()
        except queue.Empty:
            return
        progress.update(task, advance=1, note=f"{stream}, seed {seed}: {adapter}")


def _receive(told: Queue[Told]) -> None:
    global _told  # noqa: PLW0603  (a worker process has one queue for its whole life)
    _told = told


def _lab(plan: Plan, source: Source, seed: int) -> None:
    ensure_lab(plan, source, seed)


def _runs(plan: Plan, source: Source, seed: int) -> None:
    run_stream(plan, source, seed, _tell)


def _tell(stream: str, adapter: str, seed: int) -> None:
    if _told is not None:
        _told.put((stream, adapter, seed))
