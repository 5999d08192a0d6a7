"""`driftline kernel ...`: the operator's hand on the command line."""
