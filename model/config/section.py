"""What every section of settings shares: it is frozen, and it refuses by name what cannot be meant."""

from __future__ import annotations

from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, model_validator

MAX_SEED = 2**32 - 1
"""The largest seed that every generator of random numbers takes."""
_LARGEST = 1e15
"""No setting needs a larger number: a petabyte, thirty million years. Libraries overflow at some larger one."""


class Section(BaseModel):
    """A frozen group of settings; unknown keys, and numbers that are not finite or cannot be meant, are refused by
    name."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_boolean_as_number(cls, values: Any) -> Any:
        # Python's True equals 1, so `window_s = true` would silently mean one second.
        for key, value in values.items() if isinstance(values, dict) else ():
            if _has_boolean(value) and _holds_numbers(cls.model_fields.get(key)):
                raise ValueError(f"{key}: a number is wanted, not true or false")
        return values

    @model_validator(mode="after")
    def _no_number_beyond_reason(self) -> Self:
        for key in type(self).model_fields:
            if (number := _largest(getattr(self, key))) > _LARGEST:
                raise ValueError(f"{key}: {number:g} is larger than any setting may be ({_LARGEST:g})")
        return self


def _largest(value: Any) -> float:
    """The largest absolute number in a value or in a list of values; 0 if it has none."""
    if isinstance(value, list | tuple):
        return max(map(_largest, value), default=0.0)
    return abs(value) if isinstance(value, int | float) else 0.0


def _has_boolean(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(_has_boolean(part) for part in parts)


def _holds_numbers(field: Any) -> bool:
    """Whether a key takes a number or a list of numbers, and no boolean."""
    types = _leaves(field.annotation) if field is not None else set()
    return bool(types & {int, float}) and bool not in types


def _leaves(annotation: Any) -> set[Any]:
    parts = get_args(annotation)
    return set().union(*(_leaves(part) for part in parts)) if parts else {annotation}
