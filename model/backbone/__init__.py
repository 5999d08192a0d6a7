"""The backbone: trained once, then frozen.

Reading order: `interface` says what a kernel needs of a backbone. The foundation model is `foundation`, made of
`fusion`, `trunk` and `encoders`; `pretrain` trains it by `trainer` on `dataset` and `past`, with `alignment` in the
loss, `training_state` for a run that was interrupted and `report` for its figures; `content` fits the content vectors
afterwards. A backbone of the user's own is made and trained by `own`, wrapped by `wrap` and tried by `state` and
`checks` on the rows of `probe`. `schema` is what a backbone reads, and `checkpoint` the folder in which either kind is
kept. `transfer` makes a backbone for one scene more of an old one, which `grown` gives the rows and `levels` the parts
to freeze; `methods` are ways to do it with few parameters.
"""
