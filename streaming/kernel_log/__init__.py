"""The kernel log: the topics that the processor writes in transactions, and everybody who reads them.

Two compacted topics have one partition per kernel group, and one transaction writes both:

| topic (`topics.*`) | key | value |
| -- | -- | -- |
| `kernels` | `<group>/kernel` | the published kernel, see `model/kernel/record.py` |
| `kernels` | `<group>/learner` | the learner's snapshot, see `snapshot.py`; private to the processor |
| `state` | `<group>/<kind>/<key>` | one row of live features, see `rows.py`; no value: the row was evicted |

Keys and sizes are in `keys.py`, kernels for readers in `kernels.py`, the transaction in `writer.py`, and reading a
group's state for its next owner in `reader.py`. Readers are `read_committed`, so they see a transaction as a whole or
not at all.
"""
