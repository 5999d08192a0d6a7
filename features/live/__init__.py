"""Live features: features computed from the stream, per user, item, domain and facet value.

Read `layout` first (the contents of a row and the names of the columns), then `table` (decayed sums of one kind of row,
in bounded memory), `history` (users' newest events), `features` (all rows of a kernel group, which the processor
updates), `counters` (from counts to log-odds) and `read` (from rows to live features: the one function that training,
serving and replay share). Decisions 0020, 0021, 0080 and 0121 give the reasons.
"""
