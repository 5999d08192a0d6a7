"""A new scene from an old backbone: `command` is `driftline fine-tune`."""
