"""`driftline kernel ...`: operators' orders on the command line."""
