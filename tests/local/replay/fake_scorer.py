"""A small scorer of the tests' own that misbehaves on demand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

from streaming.scorer.schema import ItemScore, ScoreRequest, ScoreResponse


@dataclass
class FakeScorer:
    """Answers every request with its own items; `status` and `delay_s` change what a client sees."""

    url: str = ""
    status: int = 200
    delay_s: float = 0.0
    requests: list[ScoreRequest] = field(default_factory=list)
    open_by_user: dict[str, int] = field(default_factory=dict)
    overlapped: bool = False
    most_open: int = 0

    async def score(self, request: web.Request) -> web.Response:
        wanted = msgspec.json.decode(await request.read(), type=ScoreRequest)
        self.overlapped |= self.open_by_user.get(wanted.user_id, 0) > 0
        self.open_by_user[wanted.user_id] = self.open_by_user.get(wanted.user_id, 0) + 1
        self.most_open = max(self.most_open, sum(self.open_by_user.values()))
        await asyncio.sleep(self.delay_s)
        self.open_by_user[wanted.user_id] -= 1
        self.requests.append(wanted)
        answer = ScoreResponse(
            f"main.{len(self.requests)}", 7, "main", [ItemScore(item, 0.5) for item in wanted.candidates]
        )
        return web.Response(status=self.status, body=msgspec.json.encode(answer))


@asynccontextmanager
async def fake_scorer() -> AsyncIterator[FakeScorer]:
    """One that listens on a free port of this machine."""
    fake = FakeScorer()
    app = web.Application()
    app.router.add_post("/v1/score", fake.score)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield fake
    finally:
        await runner.cleanup()
