"""`driftline replay`: the recorded stream as live traffic through a running system."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

import aiohttp
import msgspec
import numpy as np
from rich.console import Console
from rich.markup import escape

from lab.progress import bars, reporter
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.fit import ensure_fits
from lab.streams.pacing import Pace
from lab.streams.recording import Profiles
from local.replay.announce import ReplayPlan, make_replay_plan
from local.replay.player import Player
from local.replay.publish import Publisher, publish_profiles, wait_for_ingest
from local.replay.result import ReplayConfig, ReplayResult
from streaming.clients import wait_for_broker
from streaming.config import Config
from streaming.listening import client_url
from streaming.scorer.schema import Readiness

log = logging.getLogger(__name__)

_RECENT = 500
_ASK_EVERY_S = 0.25
_LATE_S = 1.0


class ScorerNotReadyError(Exception):
    """No scorer answers, or it does not become ready; the message names it, what is missing and the cure."""


def scorer_address(config: Config) -> str:
    """Base address of the configured scorer as a client on this machine reaches it."""
    return client_url(config.scorer.host, config.scorer.port)


async def wait_for_scorer(address: str, *, timeout_s: float) -> None:
    """Waits until the scorer reports that it is ready. Raises ScorerNotReadyError after `timeout_s`."""
    until = time.monotonic() + timeout_s
    problem = "nothing answers there"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
        while True:
            try:
                async with session.get(f"{address}/readyz") as response:
                    if response.status == 200:
                        return
                    problem = _missing(await response.read())
            except (aiohttp.ClientError, TimeoutError) as error:
                problem = f"nothing answers there ({type(error).__name__})"
            if time.monotonic() > until:
                raise ScorerNotReadyError(
                    f"no scorer became ready on {address} within {timeout_s:.0f} s: {problem}; start one with "
                    "`driftline serve`, or name another with --scorer"
                )
            await asyncio.sleep(_ASK_EVERY_S)


def _missing(body: bytes) -> str:
    try:
        readiness = msgspec.json.decode(body, type=Readiness)
    except msgspec.DecodeError:
        return "it answers, but not as a scorer does"
    return "; ".join(f"{name}: {reason}" for name, reason in readiness.missing.items()) or "not ready"


async def play(
    config: Config,
    replay_plan: ReplayPlan,
    *,
    scorer: str,
    key: str | None = None,
    progress: Callable[[ReplayResult], None] | None = None,
) -> ReplayResult:
    """Plays a replay plan and waits until every click and announcement is acknowledged by Kafka.

    Raises ScorerGoneError, PublishFailedError or kafka.errors.KafkaError.
    """
    publisher = Publisher(config)
    try:
        late = 2 * (config.join.window_s + config.join.lateness_s) + _LATE_S
        sent = ReplayConfig(scorer, key, queries=bool(config.backbone.query_aspects), late_clicks_s=late)
        player = Player(sent, publisher, progress)
        played = await player.play(replay_plan)
        await asyncio.to_thread(publisher.flush)
    finally:
        publisher.close()
    return played


def live_figures(played: ReplayResult) -> str:
    """Figures to show while a play runs."""
    recent = played.latencies_s[-_RECENT:]
    middle = f"{1_000 * float(np.median(recent)):.1f} ms" if recent else "-"
    speed = played.requests / played.seconds if played.seconds > 0 else 0.0
    failed = f", [red]{played.failed.total():,} failed[/]" if played.failed else ""
    drift = f", drift: {escape(', '.join(played.drift))}" if played.drift else ""
    return f"{speed:.0f} requests/s, {middle} each, kernel {played.kernel_version}{drift}{failed}"


def run_replay(
    config: Config,
    choice: StreamChoice,
    *,
    scorer: str | None = None,
    key: str | None = None,
    pace: Pace | None = None,
    limit: int | None = None,
    profiles: bool = True,
    console: Console | None = None,
) -> int:
    """Plays the live half against a running system and prints the results; returns an exit code.

    A signal ends the play in order, announcing the end of announced drift. The code is then 128 + its number.

    `scorer` is its base address (default: the configured one), `key` the API key it asks for, `limit` how many requests
    are played at most, `profiles` whether catalogue and users are published first. Raises StreamError.
    """
    from local.signals import Interrupted, interruptible

    console = console or Console(stderr=True)
    recording = open_recording(config, choice, console)
    ensure_fits(config, recording, choice)
    address = scorer or scorer_address(config)
    wait_for_broker(config.kafka, log)
    if profiles:
        publish_and_wait(config, recording, console)
    replay_plan = make_replay_plan(recording.requests("live")[:limit], recording.drift_spans, pace or Pace())
    with bars(console) as progress:
        task = progress.add_task("replay", total=len(replay_plan.requests), note=f"waiting for {address}")

        def moved(played: ReplayResult) -> None:
            progress.update(task, completed=played.requests, note=live_figures(played))

        try:
            with interruptible():
                played = asyncio.run(_when_ready(config, replay_plan, address, key, moved))
        except Interrupted as interrupted:
            console.print(
                f"[yellow]{interrupted}: the play was cut short; announced drift has ended[/]", highlight=False
            )
            return interrupted.exit_code
    _print_figures(console, played)
    return 1 if played.failed else 0


def publish_and_wait(
    config: Config, data: Profiles, console: Console, check: Callable[[], None] = lambda: None
) -> None:
    """Publishes catalogue and profiles and waits until ingest has written them; `check` may raise meanwhile."""
    with bars(console) as progress:
        task = progress.add_task("profiles", total=None, note="catalogue and users through ingest into the store")
        publisher = Publisher(config)
        try:
            publish_profiles(publisher, data)
        finally:
            publisher.close()
        report = reporter(progress, task)

        def moved(done: int, total: int) -> None:
            check()
            report(done, total)

        wait_for_ingest(config, timeout_s=config.kafka.startup_wait_s, progress=moved)


async def _when_ready(
    config: Config, replay_plan: ReplayPlan, address: str, key: str | None, moved: Callable[[ReplayResult], None]
) -> ReplayResult:
    await wait_for_scorer(address, timeout_s=config.kafka.startup_wait_s)
    return await play(config, replay_plan, scorer=address, key=key, progress=moved)


def _print_figures(console: Console, played: ReplayResult) -> None:
    quantiles = np.quantile(played.latencies_s, (0.5, 0.99)) * 1_000 if played.latencies_s else (np.nan, np.nan)
    converted = f", {played.conversions:,} conversions" if played.conversions else ""
    console.print(
        f"{len(played.answered):,} requests answered, {played.items:,} items, {played.clicks:,} clicks{converted} in "
        f"{played.seconds:.1f} s; p50 {quantiles[0]:.1f} ms, p99 {quantiles[1]:.1f} ms",
        highlight=False,
    )
    if played.announced:
        console.print(f"{len(played.announced)} announcements of drift", highlight=False)
    for cause, count in played.failed.items():
        console.print(f"[red]{count:,} requests failed[/]: {cause}", highlight=False)
    if played.behind_s > 1:
        console.print(f"[yellow]the play fell {played.behind_s:.1f} s behind its plan[/]", highlight=False)
