"""The backbone: trained once, then frozen.

Reading order: `interface` says what a kernel needs of a backbone. The foundation model is `foundation`, made of
`fusion`, `trunk` and `encoders`; `pretrain` trains it by `trainer` on `dataset` and `past`, with `alignment` in the
loss, `training_state` for resuming an interrupted run and `report` for its figures; `content` fits the content vectors
afterwards. A custom backbone is made and trained by `custom`, wrapped by `wrap` and tested by `state` and `checks` on
the rows of `probe`. `schema` holds the inputs that a backbone reads, and `checkpoint` reads and writes the folder of
either kind. `transfer` fine-tunes a backbone for one more scene: `grown` adds the rows of its tables, `levels` names
the parts that can be frozen, and `methods` are parameter-efficient ways to do it.
"""
