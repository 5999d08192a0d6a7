"""The consumer of outside events: validates them, writes profiles to Feast, routes traffic, and keeps refused records.

Read `service` first (the loop: poll, write, commit, mark), then `reader` and `batch` (the records of one poll),
`routing` (which events are accepted, and their partition of `traffic`), `external_impressions`, `dead_letter_writer`
and `output` (what is written). `profile_lane` and `profiles` do the same for users and items, in a lane of their own.
`progress` keeps how far records were read; `ticker` writes that, and ticks when traffic stops, with `idle` and `tail`
(docs/decisions/0012, 0097). `kafka_health` and `drift_gauge` inform an operator. `routing`, `progress` and `idle` are
plain classes without a broker or a clock.
"""

from streaming.ingest.service import run_ingest

__all__ = ["run_ingest"]
