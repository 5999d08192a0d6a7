"""`driftline replay-log` and `driftline groups`: rebuild, divide and merge a group's state."""
