"""What the tests of the benchmarks share: the small plan of the evaluation."""

from tests.lab.evaluate.conftest import tiny

__all__ = ["tiny"]
