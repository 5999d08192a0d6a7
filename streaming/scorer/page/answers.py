"""The three sentences at the top of the page: is interest drifting, does the kernel handle it, did we break something.

There is no clock: the answers depend on the arguments alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Reversible, Sequence
from typing import Literal

import msgspec

from model.drift.verdict import VerdictKind
from streaming.events.decisions import Decision
from streaming.events.status import ArmStatus, DomainStatus, GroupStatus
from streaming.scorer.page.history import VERDICT
from streaming.scorer.schema import CurrentKernel, KernelRefusal

OLD_S = 60.0
"""Age in seconds from which a status no longer counts as current."""
_BROKEN = "Did we break something?"
_REFUSED_S = 3_600.0
_NAMED = 3
_WHOLE = "group"

Tone = Literal["good", "watch", "bad", "unknown"]
_DRIFTING = (VerdictKind.HANDLED, VerdictKind.UNHANDLED)
_FAULTS = {
    VerdictKind.BROKEN_BY_US: "the kernel does harm",
    VerdictKind.LABELS: "labels are faulty",
    VerdictKind.INPUTS: "inputs are faulty",
}


class Answer(msgspec.Struct, frozen=True):
    """The answer to one question, in a sentence, for the person on call."""

    question: str
    tone: Tone
    words: str
    since: float | None = None
    """Event time since which it holds, seconds since the epoch; null if it has no begin."""


def answers(
    statuses: Sequence[GroupStatus],
    kernels: Sequence[CurrentKernel],
    refusals: Iterable[KernelRefusal],
    decisions: Reversible[Decision],
    now: float,
    *,
    shown_since: float | None,
) -> list[Answer]:
    """The three answers from the newest statuses and the decisions, oldest first; `now` in seconds since the epoch.

    `shown_since` is when this scorer first answered a request after the newest status; None if it answered none.
    """
    domains = [(status.group, domain) for status in statuses for domain in status.domains]
    return [
        _drifting(domains, decisions, many=len(kernels) > 1),
        _handled(domains, kernels, many=len(kernels) > 1),
        _broken(statuses, domains, kernels, refusals, now, shown_since=shown_since),
    ]


_Domains = Sequence[tuple[str, DomainStatus]]


def _with(domains: _Domains, *kinds: VerdictKind) -> list[tuple[str, DomainStatus]]:
    """Domains with one of these verdicts, oldest first: single domains if there are any, else whole groups.

    A domain that only shares its group's verdict does not count as a single one.
    """
    found = [
        (group, domain) for group, domain in domains if domain.verdict in kinds and "shares" not in domain.evidence
    ]
    single = [(group, domain) for group, domain in found if domain.stratum != _WHOLE]
    return sorted(single or found, key=lambda pair: _time(pair[1].since))


def _time(since: float | None) -> float:
    """A sort key: an unknown time is sorted last."""
    return math.inf if since is None else since


def _where(found: _Domains, *, many: bool) -> str:
    names = [
        (f"{group}: " if many else "") + ("the whole group" if domain.stratum == _WHOLE else domain.stratum)
        for group, domain in found
    ]
    # Each with its own "in": a list of values of several facets would read as the requests that have all of them.
    more = [f"{len(names) - _NAMED} more"] if len(names) > _NAMED else []
    *others, last = names[:_NAMED] + more
    return f"{', in '.join(others)} and in {last}" if others else last


def _nothing_known(question: str, domains: _Domains) -> Answer | None:
    if not domains:
        return Answer(question, "unknown", "Not known: no processor has reported yet.")
    if all(domain.verdict == VerdictKind.TOO_LITTLE for _, domain in domains):
        return Answer(question, "unknown", "Not known yet: too few examples to judge any domain.")
    return None


def _began(group: str, domain: DomainStatus, decisions: Reversible[Decision]) -> float:
    """When the domain's present drift was first reported; becoming handled does not count as a new begin."""
    began = _time(domain.since)
    for decision in reversed(decisions):
        if decision.kind == VERDICT and decision.group == group and decision.detail.get("stratum") == domain.stratum:
            since = decision.detail.get("since", decision.time)
            if decision.detail.get("to") not in _DRIFTING or not isinstance(since, float | int):
                break
            began = min(began, since)
    return began


def _drifting(domains: _Domains, decisions: Reversible[Decision], *, many: bool) -> Answer:
    question = "Is interest drifting?"
    if (nothing := _nothing_known(question, domains)) is not None:
        return nothing
    drifting = _with(domains, *_DRIFTING)
    if drifting:
        tone: Tone = "bad" if _with(domains, VerdictKind.UNHANDLED) else "watch"
        times = [_began(group, domain, decisions) for group, domain in drifting]
        began, words = min(times), f"Yes, in {_where(drifting, many=many)}."
        if len(times) > 1 and times.count(began) == 1:
            words += f" It began in {_where([drifting[times.index(began)]], many=many)}."
        return Answer(question, tone, words, began if math.isfinite(began) else None)
    judged = sum(domain.verdict != VerdictKind.TOO_LITTLE for _, domain in domains)
    unjudged = len(domains) - judged
    rest = f"; {unjudged} more have too few examples" if unjudged else ""
    return Answer(question, "good", f"No. Nothing drifts in the {judged} strata that can be judged{rest}.")


def _handled(domains: _Domains, kernels: Sequence[CurrentKernel], *, many: bool) -> Answer:
    question = "Does the kernel handle it?"
    if (nothing := _nothing_known(question, domains)) is not None:
        return nothing
    if frozen := [kernel for kernel in kernels if kernel.frozen]:
        by = ", ".join(f"{kernel.group} ({kernel.by})" for kernel in frozen)
        return Answer(question, "watch", f"No kernel is served: an operator froze {by}.")
    unhandled, handled = _with(domains, VerdictKind.UNHANDLED), _with(domains, VerdictKind.HANDLED)
    if unhandled:
        words = f"Not yet in {_where(unhandled, many=many)}{_there(unhandled, many=many)}{_made_good(unhandled[0][1])}."
        if handled:
            words += f" It does in {_where(handled, many=many)}."
        return Answer(question, "bad", words, unhandled[0][1].since)
    if handled:
        words = f"Yes, in {_where(handled, many=many)}{_there(handled, many=many)}{_made_good(handled[0][1])}."
        return Answer(question, "good", words)  # the verdict's time is that of the drift, not since when it is handled
    whole = next((domain for _, domain in domains if domain.stratum == _WHOLE), domains[0][1])
    return Answer(question, "good", f"There is no drift to handle; {_gain(whole)}.")


def _there(found: _Domains, *, many: bool) -> str:
    """Says that the figures which follow are of the first domain, where there are several."""
    return f". In {_where(found[:1], many=many)} " if len(found) > 1 else ": "


def _made_good(domain: DomainStatus) -> str:
    """The share of the frozen arm's loss since the drift began that the live arm recovers, on which the verdict
    rests."""
    share = domain.evidence.get("recovered")
    if not isinstance(share, float | int):
        return _gain(domain)
    return f"it recovers {share:.0%} of what the frozen model lost ({_gain(domain)})"


def _gain(domain: DomainStatus) -> str:
    frozen, live = (domain.arms.get(arm, ArmStatus()).log_loss for arm in ("frozen", "live"))
    if frozen is None or live is None:
        return "the gain of the live arm is not known yet"
    return f"log loss is {live:.3f} live against {frozen:.3f} frozen"


def _silent(old: Sequence[GroupStatus], *, shown: bool) -> Answer:
    """Of groups without a new status. Without traffic there is none to commit, so a quiet night is no fault."""
    none = f"no status of {', '.join(status.group for status in old)} came for a while"
    words = (
        f"Something stands still: {none}, although this scorer answers requests."
        if shown
        else f"Not known: {none}, and this scorer answered no request since. Without traffic that is as it should be."
    )
    return Answer(_BROKEN, "bad" if shown else "watch", words, min(status.wall for status in old))


def _broken(
    statuses: Sequence[GroupStatus],
    domains: _Domains,
    kernels: Sequence[CurrentKernel],
    refusals: Iterable[KernelRefusal],
    now: float,
    *,
    shown_since: float | None,
) -> Answer:
    question, many = _BROKEN, len(kernels) > 1
    for kind, description in _FAULTS.items():
        if found := _with(domains, kind):
            return Answer(question, "bad", f"Yes: {description} in {_where(found, many=many)}.", found[0][1].since)
    if old := [status for status in statuses if now - status.wall > OLD_S]:
        return _silent(old, shown=shown_since is not None and now - shown_since > OLD_S)
    if recent := [refusal for refusal in refusals if now - refusal.time < _REFUSED_S]:
        newest = recent[-1]
        words = f"A kernel of {newest.group} was refused: {newest.reason}. The one before it is still served."
        return Answer(question, "watch", words, newest.time)
    if stopped := _stopped(statuses, kernels):
        return Answer(question, "watch", stopped)
    return _nothing_known(question, domains) or Answer(
        question, "good", "No sign of it: kernels, labels and inputs pass."
    )


def _stopped(statuses: Sequence[GroupStatus], kernels: Sequence[CurrentKernel]) -> str:
    for status in statuses:
        if status.held:
            return f"The gate holds back new kernels of {status.group}; the last good one is served."
        if (conversions := status.conversions) is not None and conversions.set_aside:
            where = ", ".join("the whole group" if stratum == _WHOLE else stratum for stratum in conversions.set_aside)
            return f"Conversions of {status.group} are not believed in {where}: look at what sends them."
        if conversions is not None and conversions.held:
            return f"The gate holds back new conversions of {status.group}: {conversions.held}."
        if status.paused:
            return f"Learning of {status.group} waits, because its feedback has not been read to the end."
    for kernel in kernels:
        if not kernel.learning:
            return f"An operator ({kernel.by}) stopped the learning of {kernel.group}."
    return ""
