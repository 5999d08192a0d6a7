"""`kill -9` at random moments over every process and the broker."""

from __future__ import annotations

import random
import time

import pytest

from tests.chaos.conftest import Sizes, Tell
from tests.chaos.stack import Stack
from tests.chaos.verdicts import check_all

BROKER = "broker"


def kill_and_start(stack: Stack, name: str, away_s: float) -> None:
    """Kills a member or the broker and starts it again `away_s` later."""
    if name == BROKER:
        stack.broker.kill()
    else:
        stack.kill(name)
    time.sleep(away_s)
    if name == BROKER:
        stack.broker.start()
    else:
        stack.start(name)


@pytest.mark.timeout(6 * 3_600)
def test_kills_at_random_moments_lose_no_record_and_no_label(stack: Stack, sizes: Sizes, tell: Tell) -> None:
    choice = random.Random(12)
    driver = stack.drive(seed=1)
    names = ["ingest-1", "processor-1", "scorer-1", BROKER]
    ended = 0
    for _ in range(sizes.rounds):
        # The next one dies while the one before still starts.
        for name in choice.sample(names, len(names)):
            time.sleep(choice.uniform(0.5, 2.5))
            kill_and_start(stack, name, choice.uniform(0.0, 2.0))
        ended += len(stack.supervise())
    time.sleep(1)
    truth = driver.stop()
    tell(
        f"{sizes.rounds * len(names)} kills, {sizes.rounds} each of {', '.join(names)}; {ended} ended by themselves",
        check_all(stack.config, truth),
    )
