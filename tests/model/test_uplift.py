"""The experiment: which requests count for which arm, and the coverage of its intervals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.uplift_coverage import Crowd, play
from model.control_users import BUCKETS, ControlUsers
from model.uplift import ALPHA, Effect, Uplift, UpliftLook, jackknife, level_of

TENTH = ControlUsers(0.1, "a test")
USERS = [f"user-{number}" for number in range(20_000)]


def fed(rates: tuple[float, float], requests: int, seed: int = 0, control: ControlUsers = TENTH) -> Uplift:
    """An experiment in which live and control users click at these rates on each of ten items."""
    random = np.random.default_rng(seed)
    uplift = Uplift(control)
    for user in random.choice(USERS, size=requests):
        draw = control.draw(str(user))
        clicks = int(random.binomial(10, rates[int(draw.control)]))
        uplift.add(draw, shown=10, clicks=clicks, conversions=0)
    return uplift


def effect_of(look: UpliftLook | None, ratio: str) -> Effect:
    assert look is not None
    return next(effect for effect in look.effects if effect.ratio == ratio)


@given(st.text(), st.floats(0, 0.5), st.text(max_size=20))
def test_every_process_assigns_a_user_to_the_same_arm(user: str, share: float, salt: str) -> None:
    assert ControlUsers(share, salt).draw(user) == ControlUsers(share, salt).draw(user)


def test_a_larger_share_keeps_the_control_users_and_adds_others() -> None:
    few, more = ControlUsers(0.1, "a"), ControlUsers(0.2, "a")
    drawn = [(few.draw(user).control, more.draw(user).control) for user in USERS]
    assert sum(small for small, _ in drawn) == pytest.approx(2_000, rel=0.1)
    assert sum(large for _, large in drawn) == pytest.approx(4_000, rel=0.1)
    assert all(large for small, large in drawn if small)


def test_another_salt_selects_other_users_and_buckets_are_independent_of_the_arm() -> None:
    other = ControlUsers(0.1, "another")
    both = sum(TENTH.draw(user).control and other.draw(user).control for user in USERS)
    assert both == pytest.approx(200, rel=0.4)
    counts = np.bincount([TENTH.draw(user).bucket for user in USERS if TENTH.draw(user).control], minlength=BUCKETS)
    assert counts.std() < 1.5 * np.sqrt(counts.mean())


def test_a_share_of_zero_has_no_control_users() -> None:
    assert not any(ControlUsers().draw(user).control for user in USERS)


def test_a_better_live_arm_is_significant_and_equal_arms_are_not() -> None:
    better, worse, equal = fed((0.2, 0.1), 20_000), fed((0.1, 0.2), 20_000), fed((0.1, 0.1), 20_000)
    for ratio in ("clicks_per_item", "clicks_per_request"):
        assert effect_of(better.look, ratio).decided == "better"
        assert effect_of(worse.look, ratio).decided == "worse"
        assert effect_of(equal.look, ratio).decided == "not yet"
    effect = effect_of(better.look, "clicks_per_item")
    assert effect.live == pytest.approx(0.2, abs=0.005)
    assert effect.low is not None and effect.high is not None and effect.low < 0.1 < effect.high


def test_rare_events_give_no_estimate() -> None:
    effect = effect_of(fed((0.2, 0.1), 20_000).look, "conversions_per_item")
    assert (effect.low, effect.high, effect.decided) == (None, None, "not yet")


def test_few_users_trigger_no_look() -> None:
    uplift = Uplift(ControlUsers(0.5, "a test"))
    for number in range(20_000):
        uplift.add(uplift.control.draw(USERS[number % 20]), shown=10, clicks=1, conversions=0)
    assert uplift.look is None


def test_all_looks_together_spend_the_significance_level() -> None:
    assert sum(level_of(look) for look in range(10_000)) == pytest.approx(ALPHA, rel=1e-3)


def test_looks_are_rare() -> None:
    look = fed((0.1, 0.1), 20_000).look
    assert look is not None
    assert look.number < 20


def test_the_variance_is_that_of_ratios_without_a_bucket() -> None:
    clicks, shown = np.array([3, 1, 0, 7, 0]), np.array([10, 12, 0, 30, 8])
    ratio, variance, freedom = jackknife(clicks, shown)
    without = np.array([8 / 50, 10 / 48, 4 / 30, 11 / 52])
    assert (ratio, freedom) == (11 / 60, 3)
    assert variance == pytest.approx(3 / 4 * ((without - without.mean()) ** 2).sum())


def test_repeated_events_of_one_user_do_not_narrow_the_interval() -> None:
    once, often = Uplift(TENTH), Uplift(TENTH)
    random = np.random.default_rng(0)
    for user in USERS:
        clicks = int(random.binomial(10, 0.2))
        for uplift, times in ((once, 1), (often, 5)):
            for _ in range(times):
                uplift.add(TENTH.draw(user), shown=10, clicks=clicks, conversions=0)
    widths = []
    for uplift in (once, often):
        arms = [jackknife(arm[2], arm[1])[1] for arm in uplift._counts]
        widths.append(np.sqrt(sum(arms)))
    assert widths[1] == pytest.approx(widths[0], rel=1e-6)


@pytest.mark.parametrize("number", [0, 10, 1_000, 20_000])
def test_users_are_counted_to_a_few_percent(number: int) -> None:
    uplift = Uplift(ControlUsers())
    for user in USERS[:number] * 2:
        uplift.add(uplift.control.draw(user), shown=1, clicks=0, conversions=0)
    assert uplift.users()["live"] == pytest.approx(number, rel=0.15)


def test_a_restored_experiment_continues_and_another_salt_starts_again() -> None:
    before = fed((0.2, 0.1), 5_000)
    after, anew = Uplift(TENTH), Uplift(ControlUsers(0.1, "another"))
    after.restore(before.snapshot())
    anew.restore(before.snapshot())
    for uplift in (before, after):
        for user in USERS[:5_000]:
            uplift.add(TENTH.draw(user), shown=10, clicks=1, conversions=0)
    assert after.snapshot() == before.snapshot()
    assert after.look == before.look
    assert anew.requests() == {"live": 0, "frozen": 0}
    assert len(before.snapshot()) < 6_000


@pytest.mark.slow
def test_the_intervals_of_all_looks_hold_jointly_with_returning_users_and_changing_rates() -> None:
    crowd = Crowd("a few most active", 1_500, 0.2, 1.5, 1.0)
    outcomes = [play(crowd, np.random.default_rng([7, number])) for number in range(150)]
    assert sum(outcome.missed for outcome in outcomes) <= 16  # of 150 at 5 %: 16 or more in 1 of 1 000 runs
    plainly = sum(outcome.missed_plainly for outcome in outcomes)
    assert plainly > sum(outcome.missed for outcome in outcomes)  # what looking again and again costs otherwise
