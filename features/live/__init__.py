"""Live features: what the stream itself produces, per user, item, domain and facet value.

Read `layout` first (what a row holds and what the columns are called), then `table` (sums of one kind of row,
bounded), `history` (what users did last), `features` (all rows of a kernel group: what the processor updates),
`counters` (from counts to log-odds) and `read` (rows to live features: the one function that training, serving and
replay share). Decisions 0020, 0021, 0080 and 0121 say why.
"""
