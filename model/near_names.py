"""The known name that somebody who mistyped one meant, for messages that refuse it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'standard'?`, to end a message that refuses `name`; empty if no known name is near."""
    by_lower = {word.lower(): word for word in known}
    near = difflib.get_close_matches(name.strip().lower(), by_lower, n=1)
    return f"; did you mean {by_lower[near[0]]!r}?" if near else ""
