"""The learning dashboard: what the kernel learns, what the gate allows, and what the live arm gains."""

from __future__ import annotations

from grafana_foundation_sdk.models.dashboard import Dashboard

from streaming.monitoring.dashboards import marks
from streaming.monitoring.dashboards.group_queries import of_group, rate
from streaming.monitoring.dashboards.panels import PanelRow, Query, dashboard, line
from streaming.monitoring.dashboards.processing import processing_rows


def learning() -> Dashboard:
    """Arms, kernel, gate, experiment, join and processor, with kernel versions as marks."""
    return dashboard(
        "driftline-learning",
        "Driftline: learning",
        "What the kernel learns, what the gate allows, and what the live arm gains.",
        [_order(), _kernel(), _gate(), _experiment(), _conversions(), *processing_rows()],
        [marks.ANNOUNCED, marks.KERNELS, marks.DECISIONS],
    )


def _order() -> PanelRow:
    return PanelRow(
        "",
        [
            line(
                "AUC within requests by arm",
                "Order of one request's items, over the recent requests with both labels, each scored before it was "
                "learned. If frozen falls and live holds, drift is handled.",
                "none",
                Query(of_group("driftline_arm_request_auc", "arm"), "{{group}} {{arm}}"),
            ),
            line(
                "NDCG@5 and @10 by arm",
                "Over the same requests. The top of the list has the largest weight.",
                "none",
                Query(of_group("driftline_arm_ndcg", "arm", "at"), "{{group}} {{arm}} @{{at}}"),
            ),
            line(
                "Gain of the live arm",
                "Live minus frozen, for log loss frozen minus live: above zero the live arm is better.",
                "none",
                Query('driftline:live_log_loss_gain{group=~"$group"}', "{{group}} log loss"),
                Query('driftline:live_auc_gain{group=~"$group"}', "{{group}} AUC"),
                Query('driftline:live_request_auc_gain{group=~"$group"}', "{{group}} AUC within requests"),
            ),
        ],
    )


def _kernel() -> PanelRow:
    by_facet = of_group("driftline_matching_facet_gain_nats", "facet", "value")
    return PanelRow(
        "The kernel",
        [
            line(
                "Distance and knowledge",
                "L2 distance of the newest kernel from the identity; nats that it has learned from the stream in all; "
                "nats per example that the compression keeps of the representation, and of these the relevant ones.",
                "none",
                Query(of_group("driftline_kernel_distance"), "{{group}} distance"),
                Query(of_group("driftline_matching_nats"), "{{group}} taught, nats"),
                Query(of_group("driftline_compression_kept_nats"), "{{group}} kept, nats/example"),
                Query(of_group("driftline_compression_relevant_nats"), "{{group}} relevant, nats/example"),
                width=6,
            ),
            line(
                "Trust by arm",
                "Weight of each arm in the served mixture. Frozen grows if the frozen model has predicted better "
                "recently. Also the probability that the matching helps.",
                "percentunit",
                Query(of_group("driftline_kernel_trust_ratio", "arm"), "{{group}} {{arm}}"),
                Query(of_group("driftline_matching_probability"), "{{group}} matching helps"),
                width=6,
            ),
            line(
                "Expected information of an example",
                "Nats that an example of the last micro-batch is expected to teach the kernel, in all and by value "
                "of a domain facet. It is high where the kernel knows little yet.",
                "none",
                Query(of_group("driftline_matching_gain_nats"), "{{group}}"),
                Query(by_facet, "{{group}} {{facet}} {{value}}"),
                width=6,
            ),
            line(
                "Requests judged",
                "Recent requests with both labels, whose order is measured. With few of them, the curves above are "
                "mostly chance.",
                "none",
                Query(of_group("driftline_judged_lists"), "{{group}}"),
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
                "Held: no kernel is published. Set aside: domains whose labels are not believed. The topic "
                "`decisions` has the reasons.",
                "none",
                Query(of_group("driftline_gate_held"), "{{group}} held"),
                Query(of_group("driftline_gate_set_aside"), "{{group}} set aside"),
                Query(of_group("driftline_gate_waiting_examples") + " / 1000", "{{group}} thousand examples in doubt"),
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
                "Evidence that the first arm is worse than the second, as a share of the threshold: at 1 it is undone.",
                "none",
                Query(of_group("driftline_gate_evidence_ratio", "comparison"), "{{group}} {{comparison}}"),
                width=6,
            ),
            line(
                "Orders of operators",
                "The pinned version, and 1 where an operator has the frozen arm served or has stopped learning.",
                "none",
                Query(of_group("driftline_kernel_pinned"), "{{group}} pinned"),
                Query(of_group("driftline_kernel_frozen"), "{{group}} frozen by order"),
                Query(of_group("driftline_learning_stopped"), "{{group}} learning stopped"),
                width=6,
            ),
        ],
    )


def _experiment() -> PanelRow:
    ends = (("difference", "difference"), ("low", "lower end"), ("high", "upper end"))
    return PanelRow(
        "Live against control users",
        [
            line(
                "Clicks per item against control users",
                "Difference of the rates, with an interval that may be watched at any time: above 0 the live arm is "
                "better. Empty without control users (scorer.control_share).",
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
                "Distinct users (accurate to about 5 %) and labelled requests, by arm.",
                "none",
                Query(of_group("driftline_uplift_users", "arm"), "{{group}} {{arm}} users"),
                Query(of_group("driftline_uplift_requests", "arm"), "{{group}} {{arm}} requests"),
            ),
        ],
    )


def _conversions() -> PanelRow:
    return PanelRow(
        "Conversions, for a backbone with conversions",
        [
            line(
                "Log loss of conversions by arm",
                "Of the probability of a conversion given a click, over the recent clicks with final labels, each "
                "scored before it was learned.",
                "none",
                Query(of_group("driftline_cvr_log_loss", "arm"), "{{group}} {{arm}}"),
                width=6,
            ),
            line(
                "AUC of conversions by arm",
                "Over the same clicks.",
                "none",
                Query(of_group("driftline_cvr_auc", "arm"), "{{group}} {{arm}}"),
                width=6,
            ),
            line(
                "Clicks that the conversion task learned",
                "Per second, an hour or more after the clicks; and the share of the recent ones that converted.",
                "none",
                Query(rate("driftline_conversion_examples_learned_total"), "{{group}} learned"),
                Query(of_group("driftline_cvr_ratio"), "{{group}} converted, share"),
                width=6,
            ),
            line(
                "Conversions held, set aside",
                "Held: the gate publishes no new kernel of conversions. Set aside: strata whose conversions look false "
                "and are not learned. The decisions topic says why.",
                "none",
                Query(of_group("driftline_cvr_held"), "{{group}} held"),
                Query(of_group("driftline_cvr_set_aside"), "{{group}} set aside"),
                width=6,
            ),
        ],
    )
