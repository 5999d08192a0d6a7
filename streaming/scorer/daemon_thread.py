"""Work on a thread that does not keep the process alive."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

T = TypeVar("T")


async def in_daemon_thread(work: Callable[[], T]) -> T:
    """Runs `work` on a daemon thread and returns its result, so that a stop need not wait for a slow call.

    Raises what `work` raises.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def resolve(settle: Callable[[], None]) -> None:
        if not done.done():
            settle()

    def run() -> None:
        try:
            settle = partial(done.set_result, work())
        except BaseException as error:  # noqa: BLE001 - it is raised again where the caller waits
            settle = partial(done.set_exception, error)
        if not loop.is_closed():
            loop.call_soon_threadsafe(resolve, settle)

    threading.Thread(target=run, name="scorer-thread", daemon=True).start()
    return await done
