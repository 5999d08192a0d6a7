"""Dependencies of the processes fail, answer slowly, run out of disk, or have a wrong clock."""

from __future__ import annotations

import resource
import signal
import sys
import time
from pathlib import Path

import psutil
import pytest
import redis

from features.store.feature_store import FeatureStore
from local.watchdog import Watchdog
from streaming.config import Config
from tests.chaos import skewed_clock
from tests.chaos.conftest import Sizes, Tell, only_long
from tests.chaos.stack import Stack, made_stack
from tests.chaos.verdicts import check_all

SLOW_S = 0.15
"""How long the store stands still before each moment in which it answers."""


@only_long
def test_a_feature_store_outage_does_not_stop_learning(stack: Stack, sizes: Sizes, tell: Tell) -> None:
    driver, lives = stack.drive(seed=2), stack.lives()
    stack.store.send_signal(signal.SIGSTOP)
    time.sleep(sizes.away_s)
    stack.store.send_signal(signal.SIGCONT)
    stack.answered(driver, 20)
    truth = driver.stop()
    stack.wait_ready()
    assert stack.lives() == lives
    assert truth.refused, "every request was answered meanwhile: the outage reached nobody"
    tell(f"Redis stood still for {sizes.away_s:.0f} s", check_all(stack.config, truth))


def test_a_slow_feature_store_loses_no_label(stack: Stack, sizes: Sizes, tell: Tell) -> None:
    driver = stack.drive(seed=3)
    end = time.monotonic() + sizes.away_s
    while time.monotonic() < end:
        stack.store.send_signal(signal.SIGSTOP)
        time.sleep(SLOW_S)
        stack.store.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    stack.answered(driver, 20)
    tell(f"Redis answered every {SLOW_S} s for {sizes.away_s:.0f} s", check_all(stack.config, driver.stop()))


def test_a_feature_store_that_lost_everything_gets_the_live_rows_back_without_a_restart(
    stack: Stack, tell: Tell
) -> None:
    driver, lives = stack.drive(seed=19), stack.lives()
    stack.answered(driver, 30)
    store = FeatureStore(stack.config.features, stack.config.run_dir)

    def live_users() -> set[str]:
        """Users with a live row, in either group."""
        scopes = [group.name for group in stack.config.groups]
        rows = [store.read_live("user", driver.users, time.time(), scope) for scope in scopes]
        return {user for found in rows for user, row in zip(driver.users, found, strict=True) if row is not None}

    before = live_users()
    assert before
    with redis.Redis.from_url(f"redis://{stack.config.features.redis}") as client:
        client.flushall()
    stack.wait_until(lambda: live_users() >= before, "the live rows of all users are back", seconds=60)
    lost = stack.metrics("processor-1").total("driftline_feature_rows_lost_total")
    truth = driver.stop()
    assert stack.lives() == lives
    assert lost >= 1
    tell(f"Redis lost everything; the rows of {len(before)} users came back", check_all(stack.config, truth))


def test_a_full_broker_disk_loses_no_acknowledged_record(stack: Stack, tell: Tell) -> None:
    driver = stack.drive(seed=4)
    state = stack.broker.state()
    assert state is not None
    process = state.process()
    assert process is not None
    # No file may grow any more, which is what a full disk is to the one who writes.
    process.rlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))
    stack.wait_until(lambda: not stack.broker.running(), "the broker gives up", seconds=60)
    stack.broker.start()
    stack.mend()
    stack.answered(driver, 20)
    answered = driver.truth.requests
    stack.wait_until(lambda: len(driver.truth.shown) >= answered, "what was answered meanwhile is logged")
    tell(
        "no file of the broker could grow until it ended; it started again with room",
        check_all(stack.config, driver.stop()),
    )


@only_long
@pytest.mark.timeout(1_800)
def test_a_full_disk_under_processor_ingest_and_feature_store_loses_no_label(
    tmp_path: Path, watchdog: Watchdog, sizes: Sizes, tell: Tell
) -> None:
    with made_stack(tmp_path / "run", watchdog, features=Config().features) as stack:  # SQLite, a file of theirs
        for role in ("ingest", "processor", "scorer"):
            stack.add(role)
        stack.wait_ready()
        driver, lives = stack.drive(seed=18), stack.lives()
        stack.answered(driver, 30)
        processor = stack.members["processor-1"]
        full = [psutil.Process(member.process.pid) for member in stack.members.values() if member.process is not None]
        before = [process.rlimit(resource.RLIMIT_FSIZE) for process in full]
        for process, (_, most) in zip(full, before, strict=True):
            process.rlimit(resource.RLIMIT_FSIZE, (4_096, most))
        stack.wait_until(lambda: not processor.ready, "the processor says that the store takes nothing")
        time.sleep(sizes.away_s)
        stack.answered(driver, 30)
        failed = stack.metrics("processor-1").total("driftline_feature_push_failed_total")
        for process, limits in zip(full, before, strict=True):
            process.rlimit(resource.RLIMIT_FSIZE, limits)
        stack.wait_ready()  # all rows that waited are in the store
        truth = driver.stop()
        assert stack.lives() == lives
        assert failed
        seen = check_all(stack.config, truth)
    tell(
        f"no file of processor, ingest and scorer could grow for {sizes.away_s:.0f} s; {failed:.0f} pushes failed", seen
    )


@only_long
def test_a_scorer_with_a_wrong_clock_loses_no_label(stack: Stack, tmp_path: Path, tell: Tell) -> None:
    ahead = tmp_path / "ahead"
    ahead.write_text("3600")
    wrong = stack.add("scorer", prefix=[sys.executable, str(Path(skewed_clock.__file__)), str(ahead)])
    try:
        stack.wait_ready()
        driver = stack.drive(seed=5)
        stack.answered(driver, 60)
        ahead.write_text("-300")
        assert wrong.process is not None
        wrong.process.send_signal(signal.SIGUSR1)
        stack.answered(driver, 60)
        seen = check_all(stack.config, driver.stop())
    finally:
        stack.end(wrong.name)
        del stack.members[wrong.name]
    tell("one of two scorers an hour fast, then set back to five minutes slow", seen)
