"""`driftline demo`: the whole loop on this machine, from data to report, in one command."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil
from kafka.errors import KafkaError
from rich.console import Console

from lab.pretraining import install_backbone, pretrained_backbone
from lab.progress import bars, reporter
from lab.streams import Catalogue
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.pacing import Pace
from lab.streams.request import Request
from local.broker.jars import class_path, jar_list
from local.broker.local import LocalBroker
from local.demo.children import Children, Part
from local.demo.collect import backbone_fingerprint, collect, kernel_uses, used
from local.demo.drain import LearningProgress, wait_until_learned
from local.demo.folder import make_anew
from local.demo.settings import child_environment, demo_config, free_ports, write_config
from local.demo.state import DEFAULT_FOLDER, DemoState, running, write_state
from local.replay.announce import ReplayPlan, make_replay_plan
from local.replay.result import ReplayResult
from local.replay.run import live_figures, play, publish_and_wait, scorer_address
from local.report import Run, RunReport, ScoredStream, build_report, draw_plot
from local.signals import hurried
from local.watchdog import Watchdog
from model.whole_files import write_whole
from streaming.clients import make_admin, quiet_client_logs, wait_for_broker
from streaming.config import Config
from streaming.topics import ensure_topics, topics

log = logging.getLogger(__name__)

PLOT_FILE = "log_loss.png"
REPORT_FILE = "report.json"
_READY_S = 180.0
_STUCK_S = 60.0
_BROKER_AWAY_S = 60.0
_WATCH_S = 0.25


class BrokerGoneError(Exception):
    """The demo's broker ended and did not come back; the message shows the end of its log."""


@dataclass(frozen=True)
class DemoOptions:
    """The demo's options."""

    folder: Path = DEFAULT_FOLDER
    keep: bool = False
    """Leave everything running at the end."""
    limit: int | None = None
    """Play at most so many requests."""
    pace: Pace = field(default_factory=Pace)
    bootstrap: str | None = None
    """A running cluster to use instead of a broker of the demo's own."""
    stream: StreamChoice = field(default_factory=StreamChoice)
    """The stream that is played; MovieLens 100K by default."""


class Demo:
    """One run, from start to end; `console` shows its progress."""

    def __init__(self, base: Config, options: DemoOptions, console: Console) -> None:
        self._base = base
        self._options = options
        self._console = console
        self._began = psutil.Process().create_time()
        self._watchdog = Watchdog()
        self._children = Children(self._watchdog)
        self._broker: LocalBroker | None = None
        self._own_topics = False
        self.left_running = False
        """Whether its processes go on when `run` has returned."""
        self._title = ""
        self.example: Request | None = None
        """A request of the stream to try by hand, once the stream is open."""
        self.config = base
        """The configuration of the processes; `base` until it has been decided."""

    def run(self) -> RunReport:
        """Runs all of it. Whatever happens, nothing is left running unless that was asked for and all went well."""
        try:
            stream, run = self._run()
            if self._options.keep:
                report = self._report(stream, run)
                self._leave_running()  # last, because whoever interrupts the report expects that everything ends
                return report
        finally:
            self._stop()  # no process is left running, whatever happened (docs/decisions/0052)
        return self._report(stream, run)

    def _run(self) -> tuple[ScoredStream, Run]:
        data = open_recording(self._base, self._options.stream, self._console)
        make_anew(self._options.folder)  # a wrong stream leaves the report of the last run where it is
        quiet_client_logs()
        self._title = data.title
        self._configure(data.catalogue)
        live = data.requests("live")
        self.example = live[0]
        install_backbone(pretrained_backbone(self.config, data, self._console), self.config.backbone_dir)
        self._start()
        fingerprint = backbone_fingerprint(self.config)
        self._wait_ready("ingest")  # or a slow start would pass for an ingest that does not read
        publish_and_wait(self.config, data, self._console, self._children.check)
        self._wait_ready("serve", "process", "ingest")
        played = self._play(make_replay_plan(live[: self._options.limit], data.drift_spans, self._options.pace))
        learned = self._drain(played)
        return self._collect(played, learned, fingerprint)

    # --- starting ---

    def _configure(self, catalogue: Catalogue) -> None:
        bootstrap = self._options.bootstrap
        if bootstrap is None:
            class_path(self._base.cache_dir, jar_list(), self._console)  # the first time this takes a while
            folder = self._options.folder.absolute() / "broker"
            port = free_ports(1)[0]
            self._broker = LocalBroker(
                folder, self._base.cache_dir, port, watchdog=self._watchdog, console=self._console
            )
            bootstrap = f"127.0.0.1:{port}"
        own_topics = self._options.bootstrap is not None
        self.config = demo_config(
            self._base,
            catalogue,
            run_dir=self._options.folder,
            bootstrap=bootstrap,
            own_topics=own_topics,
        )

    def _start(self) -> None:
        """Starts everything at once: the processes wait for the broker by themselves."""
        self._console.print("starting Kafka, ingest, processor and scorer", highlight=False)
        environment = child_environment(self.config, write_config(self.config))
        ports = self.config.ingest.metrics_port, self.config.processor.metrics_port
        parts = [
            Part("serve", f"{scorer_address(self.config)}/readyz"),
            Part("process", f"http://127.0.0.1:{ports[1]}/healthz"),
            Part("ingest", f"http://127.0.0.1:{ports[0]}/healthz"),
        ]
        self._children.start(parts, self.config.run_dir / "logs", environment)
        if self._broker is not None:
            self._broker.start()
        else:
            wait_for_broker(self.config.kafka, log)
            self._own_topics = True
        ensure_topics(self.config)

    def _wait_ready(self, *names: str) -> None:
        with bars(self._console) as progress:
            task = progress.add_task("processes", total=len(names), note="")

            def moved(waiting: list[str]) -> None:
                note = f"waiting for {', '.join(waiting)}" if waiting else "ready"
                progress.update(task, completed=len(names) - len(waiting), note=note)

            self._children.wait_ready(names, _READY_S, moved)

    def _broker_pid(self) -> int:
        state = self._broker.state() if self._broker is not None else None
        if state is None:
            raise BrokerGoneError(f"Kafka ended right after its start; its log: {self.config.run_dir / 'broker'}")
        return state.pid

    # --- playing ---

    def _play(self, replay_plan: ReplayPlan) -> ReplayResult:
        with bars(self._console) as progress:
            task = progress.add_task("live stream", total=len(replay_plan.requests), note="")

            def moved(played: ReplayResult) -> None:
                progress.update(task, completed=played.requests, note=live_figures(played))

            return asyncio.run(self._play_watched(replay_plan, moved))

    async def _play_watched(self, replay_plan: ReplayPlan, moved: Callable[[ReplayResult], None]) -> ReplayResult:
        """Plays until the end, or until a part has died, whose error it raises; `moved` is told of every answer."""
        playing = asyncio.create_task(
            play(self.config, replay_plan, scorer=scorer_address(self.config), progress=moved)
        )
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait((playing, watching), return_when=asyncio.FIRST_COMPLETED)
            return await playing if playing.done() else await watching
        finally:
            playing.cancel()
            watching.cancel()

    async def _watch(self) -> ReplayResult:
        """Raises when a part has died; never returns."""
        seen = time.monotonic()
        while True:
            await asyncio.sleep(_WATCH_S)
            self._children.check()
            if self._broker is None or self._broker.running():
                seen = time.monotonic()
            elif time.monotonic() - seen > _BROKER_AWAY_S:
                raise BrokerGoneError(
                    f"Kafka ended and was away for {_BROKER_AWAY_S:.0f} s. The end of its log:\n{self._broker.tail()}"
                )

    def _drain(self, played: ReplayResult) -> LearningProgress:
        with bars(self._console) as progress:
            task = progress.add_task("learned", total=played.items, note="waiting for the last click windows")

            def moved(examples: int) -> None:
                self._children.check()
                progress.update(task, completed=examples)

            return wait_until_learned(self.config, played.items, timeout_s=_STUCK_S, progress=moved)

    # --- ending ---

    def _collect(self, played: ReplayResult, learned: LearningProgress, fingerprint: str) -> tuple[ScoredStream, Run]:
        with bars(self._console) as progress:
            task = progress.add_task("log", total=None, note="read back for the report")
            return collect(
                self.config,
                played,
                learned,
                swaps=kernel_uses(scorer_address(self.config)),
                usage=used(self._children.pids()),
                fingerprint=fingerprint,
                progress=reporter(progress, task),
            )

    def _report(self, stream: ScoredStream, run: Run) -> RunReport:
        folder = self.config.run_dir
        report = build_report(stream, run)
        order = f"AUC within requests {report.frozen.request_auc:.3f} frozen, {report.live.request_auc:.3f} live"
        title = f"{self._title} played live: {order}"
        draw_plot(stream, folder / PLOT_FILE, title=title, drift=run.drift, verdicts=run.verdicts)
        report = replace(report, run=replace(run, seconds_total=time.time() - self._began))
        write_whole(folder / REPORT_FILE, json.dumps(report.as_json(), indent=2, allow_nan=False) + "\n")
        return report

    def _leave_running(self) -> None:
        processes = self._children.pids()
        if self._broker is not None:
            processes["broker"] = self._broker_pid()
        scorer = scorer_address(self.config)
        addresses = {
            "scorer": scorer,
            "scorer metrics": f"http://127.0.0.1:{self.config.scorer.metrics_port}/metrics",
            "processor metrics": f"http://127.0.0.1:{self.config.processor.metrics_port}/metrics",
            "ingest metrics": f"http://127.0.0.1:{self.config.ingest.metrics_port}/metrics",
            "Kafka": self.config.kafka.bootstrap,
        }
        write_state(self.config.run_dir, DemoState(running(processes), addresses))
        self._watchdog.release()
        self.left_running = True

    def _stop(self) -> None:
        """Ends every process in order: those that use the broker first. A second signal ends them at once."""
        if self.left_running:
            return
        with hurried(self._children.kill):
            killed = self._children.stop()
            for name in killed:
                self._console.print(f"[yellow]`driftline {name}` did not end in time and was killed[/]")
            if self._broker is not None and self._broker.running():
                self._broker.stop()
            if self._own_topics:
                self._delete_topics()
            self._watchdog.close()

    def _delete_topics(self) -> None:
        """A cluster that others use gets back what it was lent."""
        names = [topic.name for topic in topics(self.config)]
        try:
            with make_admin(self.config.kafka) as admin:
                admin.delete_topics(names)
        except KafkaError as error:
            self._console.print(
                f"[yellow]the demo's topics were not deleted ({error})[/]: {', '.join(names)}", highlight=False
            )
