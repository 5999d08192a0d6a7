"""User encoders: what a user did lately, oldest first, made into one vector (`backbone.user_encoder`).

`user_encoder` is the whole of it: `tokens` makes vectors of the events, one of `pool`, `gru4rec`, `nextitnet`, `sasrec`
and `bert4rec` reads them in order, and the result is one more aspect of the user. `attention` is what the last two
share; `cloze` is how BERT4Rec is pretrained before the clicks are.
"""
