"""Parameter-efficient ways to add a scene to a backbone: `driftline fine-tune --method`.

Reading order: `method` is their common interface; `lora`, `houlsby` (with `bottleneck`), `peterrec` and `conure` are
one method each; `sublayers` finds the layers of a sequence encoder that they change; `scenes` is a backbone in which
some scenes have such parameters of their own.
"""
