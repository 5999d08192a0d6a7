"""Collects the data of a demo's report, from the log and from the processes while they still run."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import psutil

from local import probe as local
from local.demo.drain import LearningProgress
from local.replay.result import ReplayResult
from local.report.drift import announced_spans
from local.report.figures import KernelUse, Run, Usage
from local.report.log import read_drift, read_kernels, read_traffic
from local.report.stream import ScoredStream, scored_stream
from local.report.verdicts import verdict_spans
from streaming.config import Config
from streaming.control.orders import read_decisions
from streaming.dead_letters import summary
from streaming.scorer.schema import KernelsResponse


def backbone_fingerprint(config: Config) -> str:
    """Fingerprint of the parameters in the backbone's file, worked out from their bytes now."""
    from streaming.backbone import open_backbone

    return str(open_backbone(config).backbone.fingerprint)


def kernel_uses(address: str) -> list[KernelUse]:
    """Every kernel that the scorer took from the live log. Raises OSError if the scorer does not answer."""
    kernels = msgspec.json.decode(local.get(f"{address}/v1/kernels"), type=KernelsResponse)
    return [
        KernelUse(swap.version, swap.newest_event_time, swap.taken_at) for swap in kernels.swaps if not swap.at_start
    ]


def used(pids: Mapping[str, int]) -> dict[str, Usage]:
    """Resources used by each process so far. Raises psutil.NoSuchProcess."""
    usage = {}
    for name, pid in pids.items():
        process = psutil.Process(pid)
        with process.oneshot():
            cpu = process.cpu_times()
            usage[name] = Usage(int(process.memory_info().rss), cpu.user + cpu.system)
    return usage


def collect(
    config: Config,
    played: ReplayResult,
    learned: LearningProgress,
    *,
    swaps: list[KernelUse],
    usage: Mapping[str, Usage],
    fingerprint: str,
    progress: Callable[[int, int], None],
) -> tuple[ScoredStream, Run]:
    """The scored stream and the figures beside it; `fingerprint` is the backbone's before the run.

    The backbone counts as unchanged if its file still gives that fingerprint, and if every impression the scorer logged
    and every kernel the processor published names it. Raises LogUnreadableError,
    TopicScanError.
    """
    stream = scored_stream(read_traffic(config, progress))
    kernels = read_kernels(config)
    # Asked of all three that could have changed it: the file, the scorer's log, the processor's (docs/decisions/0051).
    seen = stream.fingerprints | kernels.fingerprints | {backbone_fingerprint(config)}
    run = Run(
        examples_learned=learned.examples,
        learn_seconds=learned.seen_at - played.began_at,
        latencies_s=played.latencies_s,
        swaps=swaps,
        kernels_published=sum(kernels.newest.values()),
        dead_letters=dict(summary(config).number),
        join_dropped=learned.dropped,
        requests_failed=played.failed.total(),
        impressions_missing=len(played.answered - stream.request_ids),
        usage=usage,
        drift=announced_spans(read_drift(config)),
        verdicts=verdict_spans(read_decisions(config)),
        backbone_unchanged=seen == {fingerprint},
    )
    return stream, run
