"""`driftline demo`: runs the demo, shows it, leaves it running or ends it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console

from lab.streams.choice import StreamChoice
from lab.streams.pacing import Pace
from local.demo.settings import CONFIG_FILE
from local.demo.state import DEFAULT_FOLDER, STATE_FILE, DemoState, ending, only_demo, read_state
from local.signals import Interrupted, interruptible
from model.encoding.domain import FACETS, UNKNOWN
from streaming.config import Config

if TYPE_CHECKING:
    from lab.streams.request import Request
    from local.demo.run import Demo, DemoOptions

_STOP_S = 15.0


def run_demo(
    config: Config,
    *,
    keep: bool = False,
    limit: int | None = None,
    rate: float = Pace.rate,
    bootstrap: str | None = None,
    stream: StreamChoice | None = None,
    console: Console | None = None,
    out: Console | None = None,
) -> int:
    """Runs the demo and shows what happened; returns the exit code, 128 + number after a signal.

    `limit` plays fewer requests, `rate` is requests per second, `bootstrap` uses a running cluster. The folder is
    `run_dir` if the configuration names one, else `runs/demo`. `stream` is what is played (default: MovieLens 100K).
    Errors of a part are raised, after everything was ended.
    """
    from local.demo.run import Demo, DemoOptions
    from local.report import report_table

    console, out = console or Console(stderr=True), out or Console()
    stream = stream or StreamChoice()
    options = DemoOptions(demo_folder(config), keep, limit, Pace(rate), bootstrap, stream)
    demo = None
    try:
        with interruptible():
            with only_demo(options.folder):
                demo = Demo(config, options, console)
                report = demo.run()
            out.print(report_table(report))
            _name_files(out, options.folder)
            if keep:
                _print_addresses(out, demo, options)
    except Interrupted as interrupted:
        left = demo is not None and demo.left_running
        what = (
            f"the demo is left running, end it: {ending(options.folder)}"
            if left
            else "everything that the demo started has ended"
        )
        console.print(f"[yellow]{interrupted}: {what}[/]", highlight=False)
        return interrupted.exit_code
    return 0 if report.run.backbone_unchanged else 1


def stop_demo(config: Config, *, console: Console | None = None) -> int:
    """Ends a demo that was left running; returns the exit code. Harmless when there is none."""
    console = console or Console(stderr=True)
    folder = demo_folder(config)
    state = read_state(folder)
    if state is None or not state.alive():
        console.print(f"no demo was left running in {folder}", highlight=False)
        return 0
    for name, process in state.alive().items():
        with console.status(f"ending {name}"):
            _end(process)
        console.print(f"{name} has ended", highlight=False)
    (folder / STATE_FILE).unlink()
    return 0


def demo_folder(config: Config) -> Path:
    """`runs/demo`, unless the configuration names another folder than the default."""
    return DEFAULT_FOLDER if config.run_dir == Config.model_fields["run_dir"].default else config.run_dir


def _end(process: psutil.Process) -> None:
    try:
        process.terminate()
        process.wait(_STOP_S)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(_STOP_S)
    except psutil.NoSuchProcess:
        pass


def _name_files(out: Console, folder: Path) -> None:
    from local.demo.run import PLOT_FILE, REPORT_FILE

    out.print()
    for name, description in (
        (REPORT_FILE, "every figure, for programs"),
        (PLOT_FILE, "the order of requests and log loss over the stream"),
        (CONFIG_FILE, "the configuration of the run"),
        ("logs", "the logs of the processes"),
    ):
        out.print(f"  {folder / name}  [dim]{description}[/]", highlight=False, soft_wrap=True)


def _print_addresses(out: Console, demo: Demo, options: DemoOptions) -> None:
    config, folder = demo.config, options.folder
    state = read_state(folder)
    assert isinstance(state, DemoState)
    out.print("\n[bold]Left running[/]")
    for name, address in state.addresses.items():
        out.print(f"  {name:18} {address}", highlight=False, soft_wrap=True)
    assert demo.example is not None  # it runs, so its stream was opened
    body = _body(demo.example)
    url = f"http://{config.scorer.host}:{config.scorer.port}/v1/score"
    out.print("\nTry it:", highlight=False)
    out.print(f"  curl -s {url} -d {shlex.quote(body)}", highlight=False, markup=False, soft_wrap=True)
    out.print("\nMore traffic:", highlight=False)
    config_file = shlex.quote(str(folder / CONFIG_FILE))
    command = f"  driftline --config {config_file} replay {options.stream.arguments}".rstrip()
    out.print(command, markup=False, highlight=False, soft_wrap=True)
    out.print(f"\nEnd it: {ending(folder)}", markup=False, highlight=False, soft_wrap=True)


def _body(example: Request) -> str:
    """A body for `/v1/score`, from a request of the stream."""
    domain = {facet: getattr(example.domain, facet) for facet in FACETS if getattr(example.domain, facet) != UNKNOWN}
    return json.dumps({"user_id": example.user_id, "candidates": example.items[:4], "domain": domain})
