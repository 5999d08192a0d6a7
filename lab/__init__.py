"""What answers "does it help?": streams, baseline adapters and their comparison. Nothing here runs in production."""
