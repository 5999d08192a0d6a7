"""Kills of every process and the broker, at random moments."""

from __future__ import annotations

import random
import time

from tests.chaos.stack import Stack

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


def kill_all(stack: Stack, rounds: int, seed: int) -> str:
    """Every process and the broker dies once a round, the next one while the one before still starts."""
    choice = random.Random(seed)
    names = ["ingest-1", "processor-1", "scorer-1", BROKER]
    ended = 0
    for _ in range(rounds):
        for name in choice.sample(names, len(names)):
            time.sleep(choice.uniform(0.5, 2.5))
            kill_and_start(stack, name, choice.uniform(0.0, 2.0))
        ended += len(stack.supervise())
    return f"{rounds * len(names)} kills, {rounds} each of {', '.join(names)}; {ended} ended by themselves"
