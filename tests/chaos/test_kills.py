"""`kill -9` at random moments over every process and the broker."""

from __future__ import annotations

import time

import pytest

from tests.chaos.conftest import Sizes, Tell
from tests.chaos.kills import kill_all
from tests.chaos.stack import Stack
from tests.chaos.verdicts import check_all


@pytest.mark.timeout(6 * 3_600)
def test_random_kills_lose_no_record_and_no_label(stack: Stack, sizes: Sizes, tell: Tell) -> None:
    driver = stack.drive(seed=1)
    done = kill_all(stack, sizes.rounds, seed=12)
    time.sleep(1)
    truth = driver.stop()
    tell(done, check_all(stack.config, truth))
