"""Tests that a wrapped module must pass: each method must accept one, two and many rows, answer the same each time, and
treat each row by itself."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, TypeGuard

import numpy as np
import torch
from torch import Tensor, nn

from model.backbone.interface import round_representation
from model.backbone.probe import rows, with_user_of, with_user_per_item
from model.backbone.state import contents
from model.encoding.features import FeatureBatch

_MANY = 37
"""Rows of the large test: more than a small probe has, and no power of two."""
_ALONE = 16
"""Rows that are also tried one by one; few, because each takes a call."""
_REPEATS = 3
_TOLERANCE = 1e-4
"""Allowed difference as a share of the largest value. Other batch sizes sum in another order, which makes 1e-6."""


class CheckedBackbone(Protocol):
    """The part of a wrapped module that is tried."""

    module: nn.Module

    @property
    def raw(self) -> Any:
        """The module, whose outputs are not converted to one form yet."""

    def raw_content(self, batch: FeatureBatch) -> Tensor:
        """Content vectors `(n, c)` before they are rounded."""


@dataclass(frozen=True)
class CheckedShape:
    """Properties of a module that its trial showed."""

    width: int
    content_width: int
    has_conversion: bool


@dataclass(frozen=True)
class RowFunction:
    """One method as a function of rows: row `i` of the result may depend on row `i` of the inputs alone."""

    method: str
    inputs: Callable[[Tensor], tuple[Any, ...]]
    """The inputs' rows of an index, int64 `(m,)`; copies."""
    call: Callable[..., Any]
    rounded: bool = False
    """Whether the result is logged in float16."""
    logits: bool = False


def check_behaviour(backbone: CheckedBackbone, probe: FeatureBatch) -> CheckedShape:
    """Tries every method of a frozen module on rows of `probe`.

    Raises ValueError, naming the method, for a failure, a wrong shape or type, values that are not finite, results that
    differ from call to call or depend on other rows, inputs or state that are changed, or a missing gradient.
    """
    before = contents(backbone.module)
    with torch.random.fork_rng(devices=[]):
        tried = _try_all(backbone, with_user_per_item(probe))
    after = contents(backbone.module)
    changed = sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))
    if changed:
        raise ValueError(
            f"a method changes {', '.join(map(repr, changed[:5]))} when it is called: parameters, buffers and plain "
            "settings of a frozen backbone stay as they are"
        )
    return tried


def _try_all(backbone: CheckedBackbone, probe: FeatureBatch) -> CheckedShape:
    """Tries each method; `predict` reads what `represent` gives, rounded as in the log."""
    raw, everything = backbone.raw, torch.arange(max(len(probe), _MANY)) % len(probe)

    def batch(index: Tensor) -> tuple[FeatureBatch]:
        return (rows(probe, everything[index]),)

    count = len(everything)
    x = _try(RowFunction("represent", batch, raw.represent, rounded=True), count)
    _check_one_user(backbone, probe, x)
    content = _try(RowFunction("content", batch, backbone.raw_content, rounded=True), count)
    _check_content(backbone, probe, content)
    logged, domain = round_representation(x), probe.domain[everything]

    def logged_rows(index: Tensor) -> tuple[Tensor, Tensor]:
        return logged[index], domain[index]

    predict = RowFunction("predict", logged_rows, raw.predict, logits=True)
    logits = _try(predict, count)
    _check_gradient(predict, count)
    return CheckedShape(x.shape[1], content.shape[1], logits.dim() == 2 and logits.shape[1] == 2)


def _try(function: RowFunction, count: int) -> Tensor:
    """The result for all rows, float32, after every check that needs no gradient."""
    everything = torch.arange(count)
    with torch.no_grad():
        for size in (1, 2, count):
            result = _called(function, everything[:size])
            _check_result(function, result, size)
        for _ in range(_REPEATS):
            if not torch.equal(result, _called(function, everything)):
                raise ValueError(
                    f"{function.method}() gives another result the second time: is dropout on, or randomness inside?"
                )
        _check_rows(function, result.float())
    return result.float()


def _called(function: RowFunction, index: Tensor) -> Tensor:
    return _call(function.method, function.call, len(index), lambda: function.inputs(index))


def _call(method: str, call: Callable[..., Any], n: int, make_inputs: Callable[[], tuple[Any, ...]]) -> Tensor:
    """What a method gives for `n` rows. Raises ValueError unless it is a dense tensor of floating-point numbers."""
    inputs, untouched = make_inputs(), make_inputs()
    before = _settings_of_the_process()
    try:
        result = call(*inputs)
    except (Exception, SystemExit) as error:
        raise ValueError(f"{method}() fails for {n} row(s): {type(error).__name__}: {error}") from error
    for setting, value in _settings_of_the_process().items():
        if value != before[setting]:
            raise ValueError(f"{method}() changes {setting}, which belongs to the whole process: do not set it")
    if not _is_dense(result):
        kind = f"a tensor of {result.dtype}" if isinstance(result, Tensor) else f"a {type(result).__name__}"
        raise ValueError(f"{method}() gives {kind}, expected a dense tensor of floating-point numbers")
    if result.device.type != "cpu":
        raise ValueError(f"{method}() gives a tensor on {result.device}, expected one on the CPU, where its inputs are")
    for given, kept in zip(inputs, untouched, strict=True):
        if not _equal(given, kept):
            raise ValueError(f"{method}() changes its input in place: work on a copy")
    return result


def _is_dense(result: object) -> TypeGuard[Tensor]:
    return (
        isinstance(result, Tensor)
        and result.is_floating_point()
        and result.layout == torch.strided
        and not result.is_nested
    )


def _settings_of_the_process() -> dict[str, object]:
    """What a method must leave as it is. A random state is a seed for everything else that draws in this process;
    torch's is kept by the caller, because randomness inside is reported as such."""
    drawn: Any = np.random.get_state(legacy=False)
    return {
        "torch's default dtype": torch.get_default_dtype(),
        "torch's default device": torch.get_default_device(),
        "torch's gradient mode": torch.is_grad_enabled(),
        "torch's number of threads": torch.get_num_threads(),
        "torch's deterministic mode": torch.are_deterministic_algorithms_enabled(),
        "torch's precision of matrix products": torch.get_float32_matmul_precision(),
        "numpy's random state": (drawn["state"]["key"].tobytes(), drawn["state"]["pos"]),
        "numpy's handling of errors": np.geterr(),
        "Python's random state": random.getstate(),
    }


def _check_result(function: RowFunction, result: Tensor, n: int) -> None:
    """Raises ValueError, naming the method, for a wrong shape or values that are not finite as they will be stored."""
    shape = tuple(result.shape)
    if function.logits:
        if shape not in ((n,), (n, 1), (n, 2)):
            raise ValueError(
                f"{function.method}() gives shape {shape} for {n} row(s), expected ({n},), ({n}, 1) or ({n}, 2)"
            )
    elif len(shape) != 2 or shape[0] != n or shape[1] == 0:
        raise ValueError(f"{function.method}() gives shape {shape} for {n} row(s), expected ({n}, width)")
    if not bool(torch.isfinite(round_representation(result) if function.rounded else result).all()):
        problem = "not finite in float16: scale or normalise them" if function.rounded else "not finite"
        raise ValueError(f"{function.method}() gives values that are {problem}")


def _check_rows(function: RowFunction, together: Tensor) -> None:
    """Raises ValueError unless each row gives the same result alone, in pairs and in reverse order as among all
    rows."""
    count = len(together)
    cuts = [torch.tensor([row]) for row in range(min(count, _ALONE))]
    cuts += [torch.tensor([0, count - 1]), torch.arange(count).flip(0), torch.arange(0, count, 3)]
    for index in cuts:
        part = _called(function, index)
        if part.dim() != together.dim() or not _close(part.float(), together[index]):
            raise ValueError(
                f"{function.method}() gives a row another result among other rows: a candidate's score must not depend "
                "on the other candidates (is there a mean, a softmax or a batch norm over the rows?)"
            )


@torch.no_grad()
def _check_one_user(backbone: CheckedBackbone, probe: FeatureBatch, x: Tensor) -> None:
    """A request has one user's row for all of its items (`u = 1`); training has a row for each (`u = n`)."""
    first = torch.tensor([0])
    for size in (2, len(probe)):
        shared = with_user_of(rows(probe, torch.arange(size)), first)
        repeated = with_user_per_item(shared)
        one = _call("represent", backbone.raw.represent, size, lambda batch=shared: (batch,))  # type: ignore[misc]
        each = _call("represent", backbone.raw.represent, size, lambda batch=repeated: (batch,))  # type: ignore[misc]
        if tuple(one.shape) != (size, x.shape[1]):
            raise ValueError(
                f"represent() gives shape {tuple(one.shape)} for one user with {size} items, expected "
                f"({size}, {x.shape[1]}): expand the user's row to the items"
            )
        if not _close(one.float(), each.float()):
            raise ValueError("represent() gives a request of one user other rows than the same pairs one by one")


@torch.no_grad()
def _check_content(backbone: CheckedBackbone, probe: FeatureBatch, content: Tensor) -> None:
    """Content vectors are kept per item, so they may depend on nothing but the item."""
    n = len(probe)
    others = with_user_of(probe, torch.arange(n).roll(1))
    result = _call("content", backbone.raw_content, n, lambda: (others,))
    if not _close(result.float(), content[:n]):
        raise ValueError("content() depends on the user or the domain: a content vector belongs to the item alone")


def _check_gradient(function: RowFunction, count: int) -> None:
    for size in (1, count):
        first, *rest = function.inputs(torch.arange(size))
        leaf = first.clone().requires_grad_()
        with torch.enable_grad():
            result = _call(function.method, function.call, size, lambda given=(leaf, *rest): given)  # type: ignore[misc]
            if not result.requires_grad:
                raise ValueError(
                    f"{function.method}() is not differentiable in its first input: is there a no_grad or a detach?"
                )
            (gradient,) = torch.autograd.grad(result.sum(), leaf, allow_unused=True)
        if gradient is None:
            raise ValueError(f"{function.method}() gives values that do not come from its first input")
        if not bool(torch.isfinite(gradient).all()):
            raise ValueError(f"{function.method}() has a gradient that is not finite")


def _close(result: Tensor, expected: Tensor) -> bool:
    """Whether both are equal up to rounding: another batch size sums in another order."""
    scale = float(expected.abs().max()) if expected.numel() else 0.0
    return result.shape == expected.shape and bool(((result - expected).abs() <= _TOLERANCE * scale).all())


def _equal(left: Any, right: Any) -> bool:
    if is_dataclass(left):
        return all(_equal(getattr(left, field.name), getattr(right, field.name)) for field in fields(left))
    return left is right is None or torch.equal(left, right)
