"""What the kernel learns, what the gate lets through, and what it is worth."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from streaming.monitoring.dashboards import marks
from streaming.monitoring.dashboards.panels import PanelRow, Query, dashboard, line


def learning() -> Dashboard:
    """Arms, kernel, gate, worth, join and processor; the versions in use stand as marks."""
    return dashboard(
        "driftline-learning",
        "Driftline: learning",
        "What the kernel learns, what the gate lets through, and what it is worth.",
        [_order(), _kernel(), _gate(), _worth(), _conversions(), _join(), _processor(), _ownership()],
        [marks.ANNOUNCED, marks.KERNELS, marks.DECISIONS],
    )


def _of_group(metric: str, *labels: str) -> str:
    """The most of all processes that tell it."""
    return f'max by ({", ".join(("group", *labels))}) ({metric}{{group=~"$group"}})'


def _rate(metric: str, *labels: str, over: str = "1m") -> str:
    return f'sum by ({", ".join(("group", *labels))}) (rate({metric}{{group=~"$group"}}[{over}]))'


def _p99(metric: str, *labels: str) -> str:
    series = f'{metric}_bucket{{group=~"$group"}}' if labels else f"{metric}_bucket"
    return f"histogram_quantile(0.99, sum by ({', '.join((*labels, 'le'))}) (rate({series}[1m])))"


def _order() -> PanelRow:
    return PanelRow(
        "",
        [
            line(
                "AUC within requests by arm",
                "The order of one request's items, over the recent requests that hold both labels, each scored before "
                "it was learned: what a ranker is for. Frozen falls and live holds: drift, handled.",
                "none",
                Query(_of_group("driftline_arm_request_auc", "arm"), "{{group}} {{arm}}"),
            ),
            line(
                "NDCG@5 and @10 by arm",
                "Over the same requests. The top of the list counts most.",
                "none",
                Query(_of_group("driftline_arm_ndcg", "arm", "at"), "{{group}} {{arm}} @{{at}}"),
            ),
            line(
                "Gain of the live arm",
                "Live less frozen, log loss the other way round: above zero live is better.",
                "none",
                Query('driftline:live_log_loss_gain{group=~"$group"}', "{{group}} log loss"),
                Query('driftline:live_auc_gain{group=~"$group"}', "{{group}} AUC"),
                Query('driftline:live_request_auc_gain{group=~"$group"}', "{{group}} AUC within requests"),
            ),
        ],
    )


def _kernel() -> PanelRow:
    by_facet = _of_group("driftline_matching_facet_gain_nats", "facet", "value")
    return PanelRow(
        "The kernel",
        [
            line(
                "Distance and knowledge",
                "L2 distance of the newest kernel from the identity; what the stream has taught it, nats in sum; what "
                "the compression keeps of the representation and what of that is relevant, nats per example.",
                "none",
                Query(_of_group("driftline_kernel_distance"), "{{group}} distance"),
                Query(_of_group("driftline_matching_nats"), "{{group}} taught, nats"),
                Query(_of_group("driftline_compression_kept_nats"), "{{group}} kept, nats/example"),
                Query(_of_group("driftline_compression_relevant_nats"), "{{group}} relevant, nats/example"),
                width=6,
            ),
            line(
                "Trust by arm",
                "Share of each arm in what the kernel serves. Frozen grows when the frozen model has predicted better "
                "of late. Beside it, the probability that the matching helps.",
                "percentunit",
                Query(_of_group("driftline_kernel_trust_ratio", "arm"), "{{group}} {{arm}}"),
                Query(_of_group("driftline_matching_probability"), "{{group}} matching helps"),
                width=6,
            ),
            line(
                "What an example teaches",
                "Nats that an example of the last micro-batch is expected to teach the kernel, over all and by value "
                "of a domain facet. It rises where the kernel knows little yet.",
                "none",
                Query(_of_group("driftline_matching_gain_nats"), "{{group}}"),
                Query(by_facet, "{{group}} {{facet}} {{value}}"),
                width=6,
            ),
            line(
                "Requests judged",
                "Recent requests with both labels, whose order is judged. Few of them: the curves above are mostly "
                "chance.",
                "none",
                Query(_of_group("driftline_judged_lists"), "{{group}}"),
                width=6,
            ),
        ],
    )


def _gate() -> PanelRow:
    decisions = 'sum by (group, kind) (increase(driftline_gate_decisions_total{group=~"$group"}[5m]))'
    return PanelRow(
        "The gate",
        [
            line(
                "Publication held, labels set aside",
                "Held: no kernel is published. Set aside: domains whose labels are not believed. The topic of "
                "decisions says why.",
                "none",
                Query(_of_group("driftline_gate_held"), "{{group}} held"),
                Query(_of_group("driftline_gate_set_aside"), "{{group}} set aside"),
                Query(_of_group("driftline_gate_waiting_examples") + " / 1000", "{{group}} thousand examples in doubt"),
                width=6,
            ),
            line(
                "Decisions of the gate",
                "In five minutes: labels set aside and believed again, publication held, learning undone, kernels "
                "rolled back.",
                "none",
                Query(decisions, "{{group}} {{kind}}"),
                width=6,
            ),
            line(
                "Evidence of harm",
                "Of the first arm against the second, as a share of what is taken for proof: at 1 it is undone.",
                "none",
                Query(_of_group("driftline_gate_evidence_ratio", "comparison"), "{{group}} {{comparison}}"),
                width=6,
            ),
            line(
                "Orders of operators",
                "The pinned version, and 1 where an operator has the frozen arm served or has stopped learning.",
                "none",
                Query(_of_group("driftline_kernel_pinned"), "{{group}} pinned"),
                Query(_of_group("driftline_kernel_frozen"), "{{group}} frozen by order"),
                Query(_of_group("driftline_learning_stopped"), "{{group}} learning stopped"),
                width=6,
            ),
        ],
    )


def _worth() -> PanelRow:
    ends = (("difference", "difference"), ("low", "lower end"), ("high", "upper end"))
    return PanelRow(
        "What it is worth: live against control users",
        [
            line(
                "Clicks per item against control users",
                "Difference of the rates, and the interval that may be watched at any time: above 0 the live arm is "
                "better. Nothing without control users (scorer.control_share).",
                "none",
                *(
                    Query(
                        f'max by (group) (driftline_uplift_{end}{{group=~"$group",ratio="clicks_per_item"}})',
                        f"{{{{group}}}} {words}",
                    )
                    for end, words in ends
                ),
                width=16,
            ),
            line(
                "Users and requests in the experiment",
                "Distinct users (to some 5 %) and labelled requests by arm.",
                "none",
                Query(_of_group("driftline_uplift_users", "arm"), "{{group}} {{arm}} users"),
                Query(_of_group("driftline_uplift_requests", "arm"), "{{group}} {{arm}} requests"),
            ),
        ],
    )


def _conversions() -> PanelRow:
    return PanelRow(
        "Conversions, for a backbone that tells them",
        [
            line(
                "Log loss of conversions by arm",
                "Of the probability of a conversion once clicked, over the recent clicks whose labels are final, each "
                "scored before it was learned.",
                "none",
                Query(_of_group("driftline_cvr_log_loss", "arm"), "{{group}} {{arm}}"),
                width=6,
            ),
            line(
                "AUC of conversions by arm",
                "Over the same clicks.",
                "none",
                Query(_of_group("driftline_cvr_auc", "arm"), "{{group}} {{arm}}"),
                width=6,
            ),
            line(
                "Clicks that taught conversions",
                "Per second, an hour and more behind the clicks; and how many of the recent ones converted.",
                "none",
                Query(_rate("driftline_conversion_examples_learned_total"), "{{group}} learned"),
                Query(_of_group("driftline_cvr_ratio"), "{{group}} converted, share"),
                width=6,
            ),
            line(
                "Conversions held, set aside",
                "Held: no new kernel of conversions is let out. Set aside: domains whose conversions are not believed. "
                "The topic of decisions says why.",
                "none",
                Query(_of_group("driftline_cvr_held"), "{{group}} held"),
                Query(_of_group("driftline_cvr_set_aside"), "{{group}} set aside"),
                width=6,
            ),
        ],
    )


def _join() -> PanelRow:
    return PanelRow(
        "The join",
        [
            line(
                "Open requests",
                "Requests that wait for their label window to end; bounded.",
                "none",
                Query(_of_group("driftline_open_requests"), "{{group}}"),
            ),
            line(
                "Memory of the join",
                "Estimated bytes of open and of closed requests.",
                "bytes",
                Query(_of_group("driftline_join_bytes", "part"), "{{group}}, {{part}}"),
            ),
            line(
                "Ticks",
                "Ticks per second, which move event time on while no traffic comes.",
                "ops",
                Query(_rate("driftline_ticks_total"), "{{group}}"),
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
                Query(_p99("driftline_learn_seconds", "group"), "{{group}}"),
                width=6,
            ),
            line(
                "Time of a transaction, p99",
                "Live features, kernel, learner state and next offset in one.",
                "s",
                Query(_p99("driftline_commit_seconds", "group"), "{{group}}"),
                width=6,
            ),
            line(
                "Time of a feature push, p99",
                "One micro-batch of live features into the online store.",
                "s",
                Query(_p99("driftline_feature_push_seconds"), "push"),
                width=6,
            ),
            line(
                "Bytes committed",
                "Bytes per second of committed transactions by what they hold. They follow what changed, not how long "
                "it took.",
                "Bps",
                Query(_rate("driftline_commit_bytes_total", "what", over="5m"), "{{group}}, {{what}}"),
                width=6,
            ),
        ],
    )


def _ownership() -> PanelRow:
    return PanelRow(
        "Who owns what",
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
                "Seconds that the last recovery of a group took.",
                "s",
                Query(_of_group("driftline_recovery_seconds"), "{{group}}"),
                width=12,
            ),
        ],
    )
