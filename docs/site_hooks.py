"""For the site: pages link to source files, which are not part of it; there the links become plain text."""

from __future__ import annotations

import re

_PACKAGES = "driftline|local|lab|streaming|features|model|tests|benchmarks"
_TO_SOURCE = re.compile(rf"\[([^\]]+)\]\((?:\.\./)+(?:{_PACKAGES})/[^)]*\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs with every page."""
    return _TO_SOURCE.sub(r"\1", markdown)
