"""Faust, the pusher and `/metrics` around a processor, until a signal or a failure."""

from __future__ import annotations

import faust

from streaming.config import Config
from streaming.monitoring.health import HealthServer
from streaming.monitoring.watch import Watch
from streaming.processor.app import Processor
from streaming.processor.traffic_watch import TrafficWatch


def run_until_stopped(config: Config, processor: Processor, watch: Watch) -> int:
    """Runs the Faust worker, `/metrics` and the pusher until a signal or a failure; the exit code."""
    traffic = TrafficWatch(config)
    checks = {
        "tasks": watch.check,
        "start": processor.check_start,
        "groups": processor.check,
        "feedback": processor.check_feedback,
        "feature_push": processor.pusher.check,
        "traffic": traffic.check,
    }
    with HealthServer(config.processor.metrics_host, config.processor.metrics_port, checks):
        pushing = watch.thread("live-pusher", processor.pusher.run)
        watch.thread("traffic-watch", traffic.run)
        worker = faust.Worker(processor.app, loglevel=config.log_level, redirect_stdouts=False, override_logging=False)
        try:
            worker.execute_from_commandline()
        except SystemExit as error:
            if error.code not in (0, None):
                watch.failed("faust-worker", RuntimeError(f"the Faust worker ended with {error.code}"))
        finally:
            watch.stopping()
            traffic.stop()
            processor.pusher.stop()
            pushing.join()
            processor.pusher.flush()
    return watch.exit_code
