"""The present verdict of every stratum: which ones changed, and their words with the newest figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from model.drift.causes import Finding
from model.drift.signs import NAN
from model.drift.verdict import Verdict, VerdictKind
from model.drift.words import advice, words
from model.gate.scored_examples import Doubles

Evidence = Mapping[str, float | str]
_SHARED = {VerdictKind.INPUTS, VerdictKind.LABELS, VerdictKind.BROKEN_BY_US, VerdictKind.HANDLED, VerdictKind.UNHANDLED}
"""Kinds of verdict on the whole group that its stable strata share."""


class Verdicts:
    """The verdicts on all strata of a group, the group's first."""

    def __init__(self, names: Sequence[str]) -> None:
        """`names` are those of the strata; each begins with too little data."""
        kind = VerdictKind.TOO_LITTLE
        self._names = names
        self._own = [Verdict(name, kind, NAN, {"examples": 0.0}, words(kind, name, {}), advice(kind)) for name in names]
        self._evidence: list[Evidence] = [{} for _ in names]
        """The newest figures behind the verdicts; empty where there is only a count of examples."""

    def follow(
        self, findings: Sequence[Finding], examples: Doubles, alarms: Callable[[int], Sequence[str]], time: float
    ) -> list[Verdict]:
        """Takes what was found in each stratum at event time `time`, s; returns the verdicts whose kind has changed.

        `examples` `(strata,)` counts labelled examples; `alarms` names the standing alarms of a stratum.
        """
        changed = []
        for stratum, finding in enumerate(findings):
            if finding.kind is not self._own[stratum].kind:
                self._own[stratum] = self._made(stratum, finding, examples, alarms(stratum), time)
                changed.append(self._own[stratum])
            self._evidence[stratum] = finding.evidence
        return changed

    def _made(self, stratum: int, finding: Finding, examples: Doubles, alarms: Sequence[str], time: float) -> Verdict:
        name, kind = self._names[stratum], finding.kind
        evidence = {**_figures(finding.evidence, examples[stratum])}
        if alarms:
            evidence["alarms"] = ", ".join(sorted(alarms))
        since = time if math.isnan(finding.since) else finding.since
        return Verdict(name, kind, since, evidence, words(kind, name, evidence), advice(kind))

    def present(self, examples: Doubles) -> list[Verdict]:
        """One verdict per stratum, in their order; a verdict on the whole group is passed on to its stable strata."""
        shared = self._own[0].kind in _SHARED
        return [
            self._passed_on(own) if shared and own.kind is VerdictKind.STABLE else self._worded(stratum, own, examples)
            for stratum, own in enumerate(self._own)
        ]

    def _passed_on(self, own: Verdict) -> Verdict:
        group, evidence = self._own[0], self._evidence[0]
        sentence = words(group.kind, own.stratum, evidence, shared=group.stratum)
        return Verdict(
            own.stratum, group.kind, group.since, {**evidence, "shares": group.stratum}, sentence, group.advice
        )

    def _worded(self, stratum: int, own: Verdict, examples: Doubles) -> Verdict:
        """The verdict with the newest figures in its evidence and its sentence."""
        evidence = {**_figures(self._evidence[stratum], examples[stratum])}
        return replace(own, evidence=evidence, words=words(own.kind, own.stratum, evidence))

    def state(self) -> dict[str, Any]:
        """For a snapshot: numbers and strings."""
        return {
            "evidence": [{**evidence} for evidence in self._evidence],
            "own": [{**asdict(own), "kind": str(own.kind)} for own in self._own],
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self._own = [_loaded(own) for own in state["own"]]
        self._evidence = [{**evidence} for evidence in state["evidence"]]


def _figures(evidence: Evidence, examples: float) -> Evidence:
    return evidence or {"examples": float(examples)}


def _loaded(own: Mapping[str, Any]) -> Verdict:
    since = float(own["since"])
    return Verdict(**{**own, "kind": VerdictKind(own["kind"]), "since": NAN if math.isnan(since) else since})
