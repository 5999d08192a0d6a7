"""What a process's reads of the feature store found, as metrics."""

from __future__ import annotations

from streaming.monitoring import metrics


class FeatureCounts:
    """The `ReadCounts` of a process, from `begin` on: a warm-up's made-up ids must not count."""

    def __init__(self, *, counting: bool = True) -> None:
        self._counting = counting

    def begin(self) -> None:
        """Starts counting."""
        self._counting = True

    def found(self, view: str, number: int) -> None:
        """Counts entities that were found in a view, and are not too old."""
        if self._counting:
            metrics.features.FEATURE_FOUND.labels(view=view).inc(number)

    def filled(self, view: str, field: str, number: int) -> None:
        """Counts found profiles in which a declared field has a value."""
        if self._counting:
            metrics.features.FEATURE_FILLED.labels(view=view, field=field).inc(number)

    def defaulted(self, view: str, reason: str, number: int = 1) -> None:
        """Counts entities or values replaced by defaults."""
        if self._counting:
            metrics.features.FEATURE_DEFAULTS.labels(view=view, reason=reason).inc(number)
