"""Labels that lie, through the real processes: what is served may hardly become worse than the frozen model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from numpy.typing import NDArray

from streaming.events import ServedImpression
from tests.chaos.conftest import Sizes, Tell, only_long
from tests.chaos.driver import Driver, Truth, Vote
from tests.chaos.small_backbone import USERS
from tests.chaos.stack import Stack

WINDOW, HARM = 5_000, 1.02
"""Examples over which the arms are compared, and how much worse the live one may be."""

Clicks = NDArray[np.bool_]


def honest(_: ServedImpression, truth: Clicks) -> Clicks:
    """What the user wanted."""
    return truth


def flipped(_: ServedImpression, truth: Clicks) -> Clicks:
    """The opposite."""
    return ~truth


def nothing(_: ServedImpression, truth: Clicks) -> Clicks:
    """No click is sent at all."""
    return np.zeros_like(truth)


def all_of_one(impression: ServedImpression, truth: Clicks) -> Clicks:
    """One user clicks on everything, all others as they like."""
    return np.ones_like(truth) if impression.user_id == USERS[0] else truth


def losses(truth: Truth) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Log loss of every example under the true labels, in the order shown: frozen and live, as served."""
    frozen: list[NDArray[np.float64]] = []
    live: list[NDArray[np.float64]] = []
    for impression in sorted(truth.shown.values(), key=lambda shown: shown.time):
        label = np.asarray([truth.clicked[impression.request_id, item] for item in impression.items])
        for arm, into in (("frozen_logit", frozen), ("live_logit", live)):
            logit = impression.array(arm).astype(np.float64)  # type: ignore[call-overload]
            into.append(np.logaddexp(0, np.where(label, -logit, logit)))
    return np.concatenate(frozen), np.concatenate(live)


def worst_ratio(frozen: NDArray[np.float64], live: NDArray[np.float64], window: int) -> float:
    """The largest ratio of live to frozen log loss over any `window` examples in a row."""
    sums = [np.cumsum(np.concatenate([[0.0], arm])) for arm in (frozen, live)]
    in_frozen, in_live = (each[window:] - each[:-window] for each in sums)
    return float((in_live / in_frozen).max())


def shows(driver: Driver, wanted: int) -> bool:
    """Whether so many examples were shown."""
    return len(driver.truth.clicked) >= wanted


def served(driver: Driver) -> bool:
    """Whether a kernel was served: its logits differ from the frozen ones."""
    return any(
        (shown.array("frozen_logit") != shown.array("live_logit")).any() for shown in list(driver.truth.shown.values())
    )


def play(stack: Stack, phases: Sequence[tuple[Vote, int]], seed: int, users: Sequence[str] = USERS) -> Truth:
    """Users who vote so for so many examples each; the first phase lasts until a kernel is served, however long."""
    driver = stack.drive(seed, rate=60.0, candidates=40, users=users, patient=True)
    wanted = 0
    for vote, examples in phases:
        driver.vote = vote
        wanted += examples
        shown = partial(shows, driver, wanted)
        stack.wait_until(shown, f"{wanted} examples are shown", seconds=600)
        stack.wait_until(partial(served, driver), "a kernel is served")
        wanted = max(wanted, len(driver.truth.clicked))
    return driver.stop()


@pytest.mark.parametrize("lie", [flipped, pytest.param(nothing, marks=only_long)], ids=["flipped", "click rate zero"])
def test_false_labels_do_little_harm_and_are_forgotten(stack: Stack, sizes: Sizes, tell: Tell, lie: Vote) -> None:
    truth = play(stack, [(honest, sizes.poison), (lie, sizes.poison), (honest, 2 * sizes.poison)], seed=6)
    judge(truth, sizes, tell, f"{sizes.poison} examples honest, as many {lie.__name__}, {2 * sizes.poison} honest")


@only_long
def test_a_user_with_nine_tenths_of_the_traffic_does_little_harm_to_other_users(
    stack: Stack, sizes: Sizes, tell: Tell
) -> None:
    crowd = [USERS[0]] * (9 * len(USERS)) + list(USERS)
    truth = play(stack, [(all_of_one, 3 * sizes.poison), (honest, sizes.poison)], seed=7, users=crowd)
    others = Truth(
        shown={name: shown for name, shown in truth.shown.items() if shown.user_id != USERS[0]}, clicked=truth.clicked
    )
    judge(others, sizes, tell, f"one user, nine of ten requests, clicks on all, for {3 * sizes.poison} examples")


def judge(truth: Truth, sizes: Sizes, tell: Tell, done: str) -> None:
    """Never much worse than frozen by the true labels over any `WINDOW` examples, nor at the end.

    In the long form a kernel is served there again, because the identity alone would be no worse either; the short form
    ends before its probation does.
    """
    frozen, live = losses(truth)
    differ = float((frozen != live).mean())
    assert differ > 0, "no kernel was ever served: nothing is shown"
    again = bool((frozen != live)[-sizes.poison :].any())
    assert again or sizes.poison < WINDOW, "no kernel is served after the false labels: they are not forgotten"
    window = min(WINDOW, len(frozen))
    worst = worst_ratio(frozen, live, window)
    last = float(live[-sizes.poison :].sum() / frozen[-sizes.poison :].sum())
    assert worst <= HARM, f"live log loss was {worst:.3f} times the frozen one over {window} examples"
    assert last <= HARM, f"live log loss was {last:.3f} times the frozen one over the last {sizes.poison} examples"
    most = f"live log loss at most {worst:.4f} times frozen over any {window} examples, {last:.4f} over the last"
    tell(done, f"{most}; a kernel served {differ:.0%} of all")
