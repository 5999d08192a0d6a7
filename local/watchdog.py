"""Ends processes whose starter dies, however it dies."""

from __future__ import annotations

import contextlib
import subprocess
import sys

from local import watchdog_process


class Watchdog:
    """Ends what was added to it when this process dies, or when it is closed (docs/decisions/0052).

    A process of its own, for nothing inside a process acts after its SIGKILL. Leaving the `with` block closes it.
    """

    def __init__(self) -> None:
        # A session of its own: Ctrl-C in the terminal must not end the one who cleans up.
        self._process = subprocess.Popen(
            [sys.executable, "-S", "-E", watchdog_process.__file__],
            stdin=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Watchdog:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, pid: int) -> None:
        """Makes `pid` end when this process ends."""
        self._send(f"+{pid}")

    def remove(self, pid: int) -> None:
        """Stops watching process `pid`, which has ended."""
        self._send(f"-{pid}")

    def release(self) -> None:
        """Lets everything live on, and ends the watchdog."""
        self._send("release")
        self.close()

    def close(self) -> None:
        """Ends what is still watched, and the watchdog."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _send(self, order: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(order + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, ValueError):
            pass  # it was killed or closed: nothing can be watched any more, and nothing is lost by going on
