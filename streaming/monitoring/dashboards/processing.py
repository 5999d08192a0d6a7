"""Rows of the learning dashboard about the processor: the join, the times and bytes of its work, the groups it owns."""

from __future__ import annotations

from streaming.monitoring.dashboards.group_queries import of_group, p99, rate
from streaming.monitoring.dashboards.panels import PanelRow, Query, line


def processing_rows() -> list[PanelRow]:
    """The rows, from the top."""
    return [_join(), _processor(), _ownership()]


def _join() -> PanelRow:
    return PanelRow(
        "The join",
        [
            line(
                "Open requests",
                "Requests whose label window is open; bounded.",
                "none",
                Query(of_group("driftline_open_requests"), "{{group}}"),
            ),
            line(
                "Memory of the join",
                "Estimated bytes of open and of closed requests.",
                "bytes",
                Query(of_group("driftline_join_bytes", "part"), "{{group}}, {{part}}"),
            ),
            line(
                "Ticks",
                "Ticks per second, which advance event time while there is no traffic.",
                "ops",
                Query(rate("driftline_ticks_total"), "{{group}}"),
            ),
        ],
    )


def _processor() -> PanelRow:
    return PanelRow(
        "The processor",
        [
            line(
                "Time to learn a micro-batch, p99",
                "Test, trust, match and mix.",
                "s",
                Query(p99("driftline_learn_seconds", "group"), "{{group}}"),
                width=6,
            ),
            line(
                "Time of a transaction, p99",
                "Live rows, kernel, learner state and next offset together.",
                "s",
                Query(p99("driftline_commit_seconds", "group"), "{{group}}"),
                width=6,
            ),
            line(
                "Time of a feature push, p99",
                "One micro-batch of live rows to the online store.",
                "s",
                Query(p99("driftline_feature_push_seconds"), "push"),
                width=6,
            ),
            line(
                "Bytes committed",
                "Bytes per second of committed transactions, by content. They depend on what changed, not on time.",
                "Bps",
                Query(rate("driftline_commit_bytes_total", "what", over="5m"), "{{group}}, {{what}}"),
                width=6,
            ),
        ],
    )


def _ownership() -> PanelRow:
    return PanelRow(
        "Ownership",
        [
            line(
                "Groups owned",
                "Kernel groups per processor.",
                "none",
                Query("driftline_owned_groups", "owned by {{instance}}"),
                width=12,
            ),
            line(
                "Last recovery",
                "Seconds that the last recovery of each group took.",
                "s",
                Query(of_group("driftline_recovery_seconds"), "{{group}}"),
                width=12,
            ),
        ],
    )
