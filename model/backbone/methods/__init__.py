"""Ways to take up one scene more with few parameters of its own: `driftline fine-tune --method`.

Reading order: `method` is what they have in common; `lora`, `houlsby` (with `bottleneck`), `peterrec` and `conure` are
one each, `sublayers` says where a sequence encoder takes them; `scenes` is a backbone some of whose scenes have one.
"""
