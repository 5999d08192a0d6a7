"""A check that a module's whole learned state can be saved and fingerprinted: dense float32 parameters and buffers
only."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

_REGISTERED = ("_parameters", "_buffers", "_modules")
_DEPTH = 4
"""Depth to which containers and plain objects are searched for tensors."""


def check_state(module: nn.Module) -> None:
    """Raises ValueError for state that cannot be saved and fingerprinted, naming the parameter or attribute."""
    for name, value in [*module.named_parameters(), *module.named_buffers()]:
        problem = _problem(value)
        if problem:
            raise ValueError(f"{name!r} {problem}")
    saved = module.state_dict()
    if not isinstance(saved, Mapping):
        raise ValueError(f"state_dict() gives a {type(saved).__name__}, expected a mapping: do not override it")
    for name in _persistent(module):
        if name not in saved:
            raise ValueError(f"state_dict() leaves out {name!r}: do not override it, or what it leaves out is lost")
    for name, value in saved.items():
        if type(value) is not Tensor:
            raise ValueError(
                f"{name!r} is a {type(value).__name__}, not a plain tensor: a backbone's weights are dense float32, so "
                "hand in the model as it was before it was quantised or packed"
            )
    registered = {id(value) for value in (*module.parameters(), *module.buffers())}
    modules = {id(part) for part in module.modules()}
    for path, part in module.named_modules():
        for attribute, value in _plain_attributes(part):
            kind = _hidden(value, registered, modules, _DEPTH)
            if kind is not None:
                name = f"{path}.{attribute}" if path else attribute
                cure = (
                    "use nn.ModuleList or nn.ModuleDict" if kind == "module" else "use nn.Parameter or register_buffer"
                )
                raise ValueError(
                    f"{name!r} holds a {kind} that is no part of the module's state: it would neither be saved nor be "
                    f"in the fingerprint; {cure}"
                )


def _persistent(module: nn.Module) -> Iterator[str]:
    """Names of all parameters and persistent buffers, all of which `state_dict` must hold."""
    for path, part in module.named_modules(remove_duplicate=False):
        tensors = [*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)]
        for name, _ in tensors:
            if name not in part._non_persistent_buffers_set:
                yield f"{path}.{name}" if path else name


def _problem(value: Tensor) -> str | None:
    """Why a parameter or buffer cannot be saved as it is, with the cure; None if it can."""
    problem = None
    if is_lazy(value):
        problem = "has no shape yet: run the module once before it is handed in"
    elif value.is_inference():
        problem = "was made under torch.inference_mode(), so no gradient passes it: make it outside, or clone it there"
    elif value.is_quantized:
        problem = f"is quantised ({value.dtype}): hand in the float32 model, or call dequantize()"
    elif value.layout != torch.strided:
        problem = f"is sparse ({value.layout}): make it dense with to_dense()"
    elif value.device.type != "cpu":
        problem = f"is on device {value.device}: move the module with cpu()"
    elif (value.is_floating_point() or value.is_complex()) and value.dtype != torch.float32:
        problem = f"has type {value.dtype}, a backbone computes in torch.float32: convert the module with float()"
    elif value.is_floating_point() and not bool(torch.isfinite(value).all()):
        problem = "has non-finite values: they cannot be told from a torn file; take a large finite number"
    return problem


def _plain_attributes(part: nn.Module) -> Iterator[tuple[str, Any]]:
    """Attributes that `state_dict` does not hold, including class attributes of the module's own classes."""
    yield from ((name, value) for name, value in vars(part).items() if name not in _REGISTERED)
    for kind in type(part).__mro__:
        if kind is nn.Module:
            break
        yield from ((name, value) for name, value in vars(kind).items() if isinstance(value, Tensor | np.ndarray))


def _hidden(value: Any, registered: Set[int], modules: Set[int], depth: int) -> str | None:
    """`tensor`, `NumPy array` or `module` if `value` contains one that is not registered; else None."""
    if isinstance(value, Tensor):
        return None if id(value) in registered else "tensor"
    if isinstance(value, np.ndarray):
        return "NumPy array"
    if isinstance(value, nn.Module):
        return None if id(value) in modules else "module"
    if depth == 0 or isinstance(value, str | bytes | type):
        return None
    inner: Sequence[Any] = ()
    if isinstance(value, Mapping):
        inner = list(value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        inner = list(value)
    elif type(value).__module__ not in ("builtins", "torch") and hasattr(value, "__dict__") and not callable(value):
        inner = list(vars(value).values())
    kinds = (_hidden(item, registered, modules, depth - 1) for item in inner)
    return next((kind for kind in kinds if kind is not None), None)


def unsaved_state(module: nn.Module) -> str:
    """Hash of the state that `state_dict` leaves out and the factory makes anew: plain settings, non-persistent
    buffers.

    A temperature kept as a plain number decides the logits just as a parameter does. Settings of torch's own modules
    are left out, because their names change with torch's version.
    """
    digest = hashlib.sha256()
    for name, value in _unsaved(module):
        digest.update(f"{name}|{len(value)}|".encode())
        digest.update(value)
    return digest.hexdigest()


def contents(module: nn.Module) -> dict[str, bytes]:
    """Everything that a module's results may depend on, by name, as bytes: parameters, buffers and plain settings."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {name: _bytes(value) for name, value in named} | dict(_unsaved(module))


def _unsaved(module: nn.Module) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of what `state_dict` leaves out: buffers that are not persistent, and plain settings."""
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        for name in sorted(part._non_persistent_buffers_set):
            buffer = part._buffers[name]
            if buffer is not None:
                yield prefix + name, _bytes(buffer)
        if type(part).__module__.startswith("torch."):
            continue
        for name, value in sorted(vars(part).items()):
            if isinstance(value, bool | int | float | str) and name != "training":
                yield prefix + name, repr(value).encode()


def _bytes(value: Tensor) -> bytes:
    content = value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return f"{tuple(value.shape)}|{value.dtype}|".encode() + content
