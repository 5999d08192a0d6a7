"""The status of a group for the topic `status`: by domain, the arms' performance and the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from model.drift.signs import NAN, Signals
from model.drift.verdict import Verdict
from model.encoding.domain import FACETS, UNKNOWN, Domain, DomainSpace
from streaming.events.status import ArmStatus, ConversionStatus, DomainStatus, GroupStatus
from streaming.group.conversion_head import ConversionHead
from streaming.group.machine import GroupMachine

WHOLE = "group"
"""Name of the stratum of the whole group (`model.gate.scored_examples.Strata`)."""


@dataclass(frozen=True)
class DriftView:
    """The drift monitor's results for the domains of a group."""

    domains: list[tuple[Signals, Verdict]]
    refused: int
    """Number of examples that the monitor left out because of non-finite numbers."""
    reference: str
    """Name of the drift reference."""
    failures: int = 0
    """How often the monitor has failed since this owner took over."""


class ShownStrata:
    """The strata to show: those of the group's own domains, and those with traffic."""

    def __init__(self, space: DomainSpace, held: Iterable[Domain]) -> None:
        """`held` are the group's domains. A facet with one value is left out, because it equals the whole group."""
        domains = list(held)
        self._separate_facets = {facet for facet in FACETS if len(space.values[facet]) > 1}
        self._held = {(facet, getattr(domain, facet)) for domain in domains for facet in FACETS}

    def __contains__(self, signals: Signals) -> bool:
        if signals.stratum == WHOLE:
            return True
        facet, _, value = signals.stratum.partition("=")
        if facet not in self._separate_facets:
            return False
        return signals.served > 0 or signals.examples > 0 or (value != UNKNOWN and (facet, value) in self._held)

    def look(self, machine: GroupMachine) -> DriftView:
        """The results to show; to be called between two records."""
        monitor, verdicts = machine.drift.monitor, {verdict.stratum: verdict for verdict in machine.drift.verdicts}
        signals = monitor.signals()
        shown = [(measured, verdicts[measured.stratum]) for measured in signals if measured in self]
        return DriftView(shown, signals[0].refused, machine.drift.reference, machine.drift.failures)


def group_status(machine: GroupMachine, look: DriftView, wall: float, request_auc: Mapping[str, float]) -> GroupStatus:
    """The status at wall-clock time `wall`, s; `request_auc` is the whole group's, by arm."""
    join, whole = machine.join, look.domains[0][0]
    return GroupStatus(
        group=machine.group,
        time=join.watermark,
        wall=wall,
        examples=machine.publisher.examples,
        kernel_version=machine.publisher.version,
        newest_event_time=_known(machine.publisher.newest_event_time),
        held=bool(machine.guarded.gate.held),
        learning=machine.learning,
        paused=join.paused,
        label_delay_s=_known(whole.label_delay_s),
        late_share=_known(whole.late_share),
        reference=look.reference,
        domains=[_domain(*one, request_auc if one[0] is whole else {}) for one in look.domains],
        conversions=None if machine.conversions.head is None else _conversions(machine.conversions.head),
    )


def _conversions(head: ConversionHead) -> ConversionStatus:
    gate = head.gate
    return ConversionStatus(
        learned=head.learned,
        rate=_known(head.window.label_rate),
        arms={
            arm: ArmStatus(
                _known(measures["log_loss"]), _known(measures["auc"]), calibration=_known(measures["calibration"])
            )
            for arm, measures in head.window.summary().items()
        },
        held=gate.held,
        set_aside=[gate.strata.name(stratum) for stratum in gate.quarantine.aside.nonzero()[0].tolist()],
    )


def _domain(signals: Signals, verdict: Verdict, request_auc: Mapping[str, float]) -> DomainStatus:
    arms = {
        arm: ArmStatus(
            _known(signs.log_loss), _known(signs.auc), _known(request_auc.get(arm, NAN)), _known(signs.calibration)
        )
        for arm, signs in signals.arms.items()
    }
    return DomainStatus(
        stratum=signals.stratum,
        examples=signals.examples,
        verdict=str(verdict.kind),
        since=_known(verdict.since),
        words=verdict.words,
        advice=verdict.advice,
        label_rate=_known(signals.label_rate),
        arms=arms,
        expected_log_loss=_known(signals.expected_log_loss),
        expected_auc=_known(signals.expected_auc),
        evidence={name: value if isinstance(value, str) else _known(value) for name, value in verdict.evidence.items()},
    )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
