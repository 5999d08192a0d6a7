"""A kernel group: a deterministic state machine that labels, gates, learns, corrects and publishes. No broker, clock or
thread."""
