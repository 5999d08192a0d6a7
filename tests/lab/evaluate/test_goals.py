"""What the report says of the goals: answered where the streams and adapters allow it, and able to say no."""

from __future__ import annotations

from dataclasses import replace

from lab.evaluate.compare import Interval
from lab.evaluate.goals import goals
from lab.evaluate.report import AdapterRow, CostRow, EvaluationReport, StreamReport

NAN = float("nan")
NONE = Interval(NAN, NAN)


def row(
    adapter: str, lead: float, *, over: float = 0.0, recovered: float = NAN, forgetting: Interval = NONE
) -> AdapterRow:
    return AdapterRow(
        adapter=adapter, auc=Interval(0.6 + lead, 0.01), log_loss=0.6, normalised_entropy=1.0, calibration=1.0,
        request_auc=Interval(0.6 + lead, 0.01), ndcg_5=NONE, ndcg_10=NONE, request_auc_lead=Interval(lead, 0.001),
        ndcg_5_lead=NONE, ndcg_10_lead=NONE, lead=Interval(lead, 0.001), windowed_lead=Interval(lead / 2, 0.001),
        against_full=Interval(over, 0.001), recovered=recovered,
        examples_to_half=None, forgetting=forgetting, around_return=(), domains={}, spans={}, curve=(),
        log_loss_curve=(),
    )  # fmt: skip


def stream(name: str, *rows: AdapterRow) -> StreamReport:
    return StreamReport(name, 1_000, 90, 0.3, NAN, NAN, (), rows)


def report(*streams: StreamReport, parameters: int = 20, seconds: float = 3.0, over: float = 0.005) -> EvaluationReport:
    names = list(dict.fromkeys(row.adapter for one in streams for row in one.rows))
    costs = {"iak": CostRow("iak", parameters, seconds, 0, 0)}
    return EvaluationReport(
        commit="", plan={"adapters": names}, streams=streams,
        costs=tuple(costs.get(name, CostRow(name, 100, 10.0, 0, 0)) for name in names),
        request_leads={}, leads={}, against_full={name: Interval(over, 0.001) for name in names}, against_kernel={},
    )  # fmt: skip


GOOD = stream(
    "recurring",
    row("iak", 0.02, recovered=1.2, forgetting=Interval(0.004, 0.001)),
    row("full", 0.015, recovered=1.0, forgetting=Interval(0.010, 0.002)),
    row("live-head", 0.01),
)
CALM = stream("no-drift", row("iak", 0.001), row("full", 0.0), row("live-head", 0.0))
REAL = stream("movielens-100k", row("iak", 0.02, over=0.01), row("full", 0.01), row("live-head", 0.0))


def met(asked: EvaluationReport) -> dict[str, bool]:
    return {goal.question: goal.met for goal in goals(asked)}


def test_a_kernel_that_shows_all_of_it_meets_every_goal() -> None:
    answers = met(report(GOOD, CALM, REAL))
    assert len(answers) == 8
    assert all(answers.values())


def test_every_goal_can_be_missed() -> None:
    poor = stream(
        "recurring",
        row("iak", 0.0, recovered=0.8, forgetting=Interval(0.009, 0.001)),
        *GOOD.rows[1:],
    )
    harmed = stream("no-drift", row("iak", -0.002), *CALM.rows[1:])
    beaten = stream("movielens-100k", row("iak", -0.01, over=-0.02), *REAL.rows[1:])
    answers = met(report(poor, harmed, beaten, parameters=30, seconds=5.0, over=0.0005))
    assert len(answers) == 8
    assert not any(answers.values())


def test_forgetting_is_asked_even_if_full_fine_tuning_forgets_nothing() -> None:
    full = row("full", 0.015, recovered=1.0, forgetting=Interval(-0.001, 0.002))
    asked = [
        goals(report(stream("recurring", row("iak", 0.02, recovered=1.2, forgetting=Interval(own, 0.001)), full)))
        for own in (0.001, -0.001)
    ]
    met = [next(goal.met for goal in one if "forgets" in goal.question) for one in asked]
    assert met == [False, True]


def test_the_streams_on_which_the_kernel_is_below_the_head_are_named() -> None:
    lost = replace(CALM, rows=(row("iak", -0.001), *CALM.rows[1:]))
    measured = next(goal.measured for goal in goals(report(GOOD, lost)) if "linear head" in goal.question)
    assert measured == "mean +0.0045; below on no-drift (-0.0010; -0.0005 within windows of time)"


def test_without_full_fine_tuning_there_is_nothing_to_ask() -> None:
    assert goals(report(stream("abrupt", row("iak", 0.01)))) == []


def test_what_no_stream_answers_is_not_asked() -> None:
    asked = met(report(stream("log", row("iak", 0.01), row("full", 0.01))))
    assert len(asked) == 3


def test_one_seed_has_no_interval_and_proves_no_lead() -> None:
    alone = replace(report(GOOD), against_full={"iak": Interval(0.005, NAN)})
    goal = next(goal for goal in goals(alone) if "over all streams" in goal.question)
    assert (goal.measured, goal.met) == ("+0.0050", False)


def test_what_is_not_a_number_is_not_asked() -> None:
    unknown = replace(row("iak", 0.0), lead=NONE, windowed_lead=NONE, against_full=NONE)
    for name in ("recurring", "no-drift", "movielens-100k"):
        alone = stream(name, unknown, replace(unknown, adapter="full"), replace(unknown, adapter="live-head"))
        empty = replace(report(alone, parameters=0, seconds=0.0), against_full={"iak": NONE})
        assert [goal.question for goal in goals(empty)] == ["takes at most a third of its processor time"]
