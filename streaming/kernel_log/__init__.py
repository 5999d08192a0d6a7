"""The contract between the processor, which writes the kernel log, and everyone who reads it.

Two compacted topics hold one partition per kernel group, and one transaction writes both:

| topic (`topics.*`) | key | value |
| -- | -- | -- |
| `kernels` | `<group>/kernel` | the published kernel, see `model/kernel/record.py` |
| `kernels` | `<group>/learner` | the learner's snapshot, see `snapshot.py`; private to the processor |
| `state` | `<group>/<kind>/<key>` | one row of live features, see `rows.py`; no value: the row was evicted |

Keys and sizes stand in `keys.py`, the kernels as a reader meets them in `kernels.py`, the transaction in `writer.py`, a
group's state as its next owner reads it in `reader.py`. Readers are `read_committed`: they see a transaction whole or
not at all.
"""
