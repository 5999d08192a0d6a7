"""Live drift features: what the frozen model has lately been wrong about, per item, user and domain.

Read `layout` first (what a row holds and what the columns of T are), then `table` (decayed sums of one kind of row,
bounded), `features` (all rows of a kernel group: what the processor updates) and `read` (rows to T: the one function
that training, serving and replay share). Decisions 0020 and 0021 in docs/decisions say why.
"""
