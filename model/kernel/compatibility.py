"""The settings that a kernel's weights depend on, so that a stored kernel that does not fit can name the difference."""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as shortened
from typing import Any

from model.encoding.domain import FACETS
from model.kernel.start import KernelStart

_MISSING = "not set"


def dependencies(start: KernelStart, domain_sizes: tuple[int, int, int]) -> dict[str, Any]:
    """The settings that decide the meaning of a kernel's weights, as JSON values by configuration key.

    `kernel.start` identifies what the kernel took over from pretraining, `kernel.conversion_start` the same for the
    conversion task, if any. Sizes stand under the setting that decides them: `backbone.width`, `live.width` (the number
    of live features) and `domains.<facet>.count` (declared values and `unknown`).
    """
    sizes = {f"domains.{facet}.count": size for facet, size in zip(FACETS, domain_sizes, strict=True)}
    conversion = {} if start.conversion is None else {"kernel.conversion_start": start.conversion.digest[:16]}
    return {
        **sizes,
        **conversion,
        "kernel.start": start.digest[:16],
        "backbone.width": start.width,
        "live.width": len(start.live_names),
    }


def differing(stored: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ or that only one side has, sorted."""
    return [key for key in sorted({*stored, *current}) if stored.get(key, _MISSING) != current.get(key, _MISSING)]


def difference(stored: Mapping[str, Any], current: Mapping[str, Any], where: str) -> str:
    """A clause for each differing key ("live.width is 41 in the record, 50 here"); empty if all agree."""
    return "; ".join(
        f"{key} is {_shown(stored.get(key, _MISSING))} in the {where}, {_shown(current.get(key, _MISSING))} here"
        for key in differing(stored, current)
    )


def sections(keys: list[str]) -> str:
    """Names of the configuration sections that hold `keys`, for an error message."""
    return " and ".join(f"`{name}`" for name in sorted({key.split(".", 1)[0] for key in keys}))


def _shown(value: object) -> str:
    return value if value == _MISSING else shortened(value)
