"""Fields that a profile holds and nobody declared: they are not stored, which is said once by name."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

from model.config import FieldSpec
from model.near_names import did_you_mean

log = logging.getLogger(__name__)

_MOST = 20
"""Names of a view that are logged; a sender may make up any number of them."""


class UndeclaredFields:
    """Logs each undeclared field of a view's profiles the first time."""

    def __init__(self, view: str, key: str, specs: Sequence[FieldSpec]) -> None:
        """`key` is the configuration's key that declares the fields."""
        self._view, self._key = view, key
        self._declared = frozenset(spec.name for spec in specs)
        self._logged: set[str] = set()

    def count(self, fields: Mapping[str, object]) -> int:
        """Number of undeclared fields in a profile."""
        if fields.keys() <= self._declared:
            return 0
        unknown = fields.keys() - self._declared
        for name in sorted(unknown - self._logged)[: _MOST - len(self._logged)]:
            self._logged.add(name)
            log.warning(
                "profiles of %s come with a field %.80r, which %s does not declare: it is not stored%s",
                self._view, name, self._key, did_you_mean(name[:80], self._declared),
            )  # fmt: skip
        return len(unknown)
