"""A new query's text is encoded on a thread: other requests go on, and equal queries share the work."""

from __future__ import annotations

import asyncio
import threading

import msgspec
import pytest

from model.backbone.foundation import FoundationBackbone
from model.encoding.query import EncodedQuery
from streaming.config import Config
from streaming.monitoring.supervisor import TaskSupervisor
from streaming.scorer.schema import RequestRefused, ScoreRequest
from streaming.scorer.service import ScorerService
from tests.streaming.scorer.scoring_parts import (
    MadeUpFeatures,
    make_backbone,
    make_kernels,
    make_scorer,
)


@pytest.fixture(scope="module")
def backbone() -> FoundationBackbone:
    return make_backbone()


class SlowTexts(MadeUpFeatures):
    """Encodes a new query only when it is let go."""

    def __init__(self, backbone: FoundationBackbone) -> None:
        super().__init__(backbone, reads_queries=True)
        self.began, self.go = threading.Event(), threading.Event()

    def query(self, text: str) -> EncodedQuery | None:
        self.began.set()
        assert self.go.wait(60), "nobody let the text encoder go: it blocks the event loop"
        return super().query(text)


async def began(texts: SlowTexts) -> None:
    assert await asyncio.to_thread(texts.began.wait, 60)


def searching(backbone: FoundationBackbone, texts: SlowTexts) -> ScorerService:
    kernels = make_kernels(backbone)
    return ScorerService(Config(), make_scorer(backbone, kernels, encoder=texts), kernels, TaskSupervisor())


WAR = ScoreRequest("u", ["a", "b"], query="war films")


async def test_other_requests_are_served_while_a_new_query_is_encoded(backbone: FoundationBackbone) -> None:
    texts = SlowTexts(backbone)
    service = searching(backbone, texts)
    one, same = (asyncio.create_task(service.score(WAR, 0.0)) for _ in range(2))
    await began(texts)
    assert (await service.score(ScoreRequest("v", ["a"]), 0.0)).impression.items == ["a"]
    assert not one.done() and not same.done()
    texts.go.set()
    logits = [(await task).impression.frozen_logit for task in (one, same)]
    assert logits[0] == logits[1]
    assert texts.asked == ["war films"], "encoded once for both"
    plain = await service.score(msgspec.structs.replace(WAR, query=None), 0.0)
    assert plain.impression.frozen_logit != logits[0]
    await service.stop()


async def test_a_client_that_disconnects_does_not_cancel_a_shared_query_encoding(backbone: FoundationBackbone) -> None:
    texts = SlowTexts(backbone)
    service = searching(backbone, texts)
    one, other = (asyncio.create_task(service.score(WAR, 0.0)) for _ in range(2))
    await began(texts)
    one.cancel()
    await asyncio.sleep(0)
    texts.go.set()
    assert (await other).impression.user_id == "u"
    with pytest.raises(asyncio.CancelledError):
        await one
    await service.stop()


async def test_new_queries_beyond_the_queue_limit_are_asked_to_retry(
    backbone: FoundationBackbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streaming.scorer.query_reader.MOST_WAITING", 2)
    texts = SlowTexts(backbone)
    service = searching(backbone, texts)
    queries = [msgspec.structs.replace(WAR, query=f"films {number}") for number in range(3)]
    waiting = [asyncio.create_task(service.score(query, 0.0)) for query in queries[:2]]
    await began(texts)
    with pytest.raises(RequestRefused, match="2 new queries wait: send this one again") as refused:
        await service.score(queries[2], 0.0)
    assert refused.value.status == 503
    texts.go.set()
    await asyncio.gather(*waiting)
    await service.stop()


async def test_an_invalid_request_encodes_no_query(backbone: FoundationBackbone) -> None:
    texts = SlowTexts(backbone)
    with pytest.raises(RequestRefused, match="candidates is empty"):
        await searching(backbone, texts).score(msgspec.structs.replace(WAR, candidates=[]), 0.0)
    assert not texts.began.is_set()
