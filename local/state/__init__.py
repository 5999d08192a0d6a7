"""`driftline replay-log` and `driftline groups`: a group's state in the operator's hand."""
