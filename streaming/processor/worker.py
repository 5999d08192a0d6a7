"""Faust, the pusher and `/metrics` around a processor, until a signal or a failure."""

from __future__ import annotations

import faust

from streaming.config import Config
from streaming.monitoring.health import HealthServer
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.processor.app import Processor
from streaming.processor.traffic_id_monitor import TrafficIdMonitor


def run_until_stopped(config: Config, processor: Processor, supervisor: TaskSupervisor) -> int:
    """Runs the Faust worker, `/metrics` and the pusher until a signal or a failure; the exit code."""
    traffic = TrafficIdMonitor(config)
    checks = {
        "tasks": supervisor.check,
        "start": processor.check_start,
        "groups": processor.check,
        "feedback": processor.check_feedback,
        "feature_push": processor.pusher.check,
        "traffic": traffic.check,
    }
    with HealthServer(config.processor.metrics_host, config.processor.metrics_port, checks, section="processor"):
        pushing = supervisor.thread("live-pusher", processor.pusher.run)
        supervisor.thread("traffic-id-monitor", traffic.run)
        worker = faust.Worker(processor.app, loglevel=config.log_level, redirect_stdouts=False, override_logging=False)
        try:
            worker.execute_from_commandline()
        except SystemExit as error:
            if error.code not in (0, None):
                supervisor.failed("faust-worker", RuntimeError(f"the Faust worker ended with {error.code}"))
        finally:
            supervisor.stopping()
            traffic.stop()
            processor.pusher.stop()
            pushing.join()
            processor.pusher.flush()
    return supervisor.exit_code
