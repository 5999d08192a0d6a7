"""`driftline evaluate`: any adapter on any stream, test-then-train, as one honest comparison."""

from lab.evaluate.command import run_evaluate

__all__ = ["run_evaluate"]
