"""User encoders: turn a user's recent events, oldest first, into one vector (`backbone.user_encoder`).

`user_encoder` is the module that the backbone holds: `tokens` makes vectors of the events, one of `pool`, `gru4rec`,
`nextitnet`, `sasrec` and `bert4rec` reads them in order, and the result is one more aspect of the user. `attention` is
shared by the last two. `cloze` (for BERT4Rec) and `clue` pretrain an encoder before it learns from clicks.
"""
