"""`driftline evaluate`: any adapter on any stream, test-then-train, as one honest comparison."""
