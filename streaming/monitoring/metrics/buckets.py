"""Upper bounds of histogram buckets, seconds."""

FAST = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.025, 0.035, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
"""For one call, push or transaction."""
SECONDS = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 5, 10, 30, 60, 300)
"""For what takes seconds, such as a kernel's way to the scorer."""
