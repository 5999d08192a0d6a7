"""Live features: what the stream itself produces, per user, item, domain and facet value.

Read `layout` first (what a row holds and what the columns are called), then `table` (sums of one kind of row,
bounded), `features` (all rows of a kernel group: what the processor updates), `counters` (from counts to log-odds) and
`read` (rows to live features: the one function that training, serving and replay share). Decisions 0020, 0021 and 0080
say why.
"""
