"""A consumer for Faust that passes records on in whole fetches, and stores the offsets that it is given.

Faust makes four tasks for each record, so that a rebalance can interrupt it, and passes it through a channel, an event
and a stream. That takes more processor time than learning the record (docs/decisions/0144). Everything else stays
Faust's: membership, rebalances, seeks after them, heartbeats.

Faust has no public way to wait for a whole fetch or to commit an offset of a record that it has not acknowledged. The
two private methods that do it are called here and nowhere else (faust-streaming 0.15.3).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from aiokafka import ConsumerRecord
from faust.transport.drivers.aiokafka import Consumer
from faust.types import TP

Fetched = Sequence["ConsumerRecord[bytes, bytes]"]
Take = Callable[[int, Fetched], Awaitable[None]]
"""Takes records of a partition in order; waits while there is no room for them."""
_NO_RECORDS: tuple[tuple[TP, Any], ...] = ()


class FetchConsumer(Consumer):  # type: ignore[misc]
    """Passes the records of a partition to `take` as they were fetched, and acknowledges none."""

    def __init__(self, take: Take, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._take = take

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 -- Faust's signature
        """Passes on what is fetched within `timeout` seconds; Faust itself gets no record from it."""
        records, active = await self._wait_next_records(timeout)
        if records and not self.should_stop:
            if self.flow_active:
                await self._take_all(records, active)
            else:
                # A rebalance has begun. It usually ends with this same seek; if it has nothing to seek, this one does.
                await self.perform_seek()
        for record in _NO_RECORDS:  # makes this the generator that Faust iterates over
            yield record

    async def store_offset(self, tp: TP, offset: int) -> None:
        """Commits `offset` to the broker; Faust's own `commit` writes only the offsets of acknowledged records."""
        await self._commit({tp: offset})

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Checks nothing. Faust would log an error every few minutes, that its stream does not process records or that
        nothing is committed: no record passes its stream. `driftline_processor_lag_records` shows what waits."""

    async def _take_all(self, records: Mapping[TP, Fetched], active: set[TP] | None) -> None:
        generation = self.app.consumer_generation_id
        for tp, fetched in records.items():
            if self._is_ours(tp, active, generation):
                await self._take(tp.partition, fetched)

    def _is_ours(self, tp: TP, active: set[TP] | None, generation: int) -> bool:
        """Whether to take a partition's fetched records; if not, the seek after the rebalance reads them again."""
        same = self.flow_active and self.app.consumer_generation_id == generation
        return same and (active is None or tp in active)
