"""State of an unfinished pretraining: written after each pass, so that the next run resumes bit for bit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from model.container import ContainerError, pack, unpack
from model.whole_files import write_whole


class ResumeError(ValueError):
    """The saved state cannot be used; the message names the file and the cure."""


@dataclass(frozen=True)
class Unfinished:
    """Every object that training changes."""

    model: nn.Module
    best: dict[str, Tensor]
    """Parameters of the best pass so far."""
    optimiser: torch.optim.Optimizer
    generator: torch.Generator


def save_state(path: Path, run: str, state: Unfinished, progress: Mapping[str, Any]) -> None:
    """Writes the file atomically. `run` identifies the data and settings; `progress` may be any JSON."""
    tensors = {f"model.{name}": value for name, value in state.model.state_dict().items()}
    tensors |= {f"best.{name}": value for name, value in state.best.items()}
    for index, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": torch.as_tensor(value) for name, value in moments.items()}
    tensors["generator"] = state.generator.get_state()
    tensors["global"] = torch.get_rng_state()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, pack(tensors, {"run": run, "progress": json.dumps(progress)}))


def load_state(path: Path, run: str, state: Unfinished) -> dict[str, Any] | None:
    """Restores the objects in `state` in place and returns `progress`; None if there is no file. Raises ResumeError."""
    if not path.exists():
        return None
    try:
        tensors, metadata = unpack(path.read_bytes())
        if metadata["run"] != run:
            raise ResumeError(f"{path}: belongs to a pretraining with other data or settings; delete it to begin anew")
        progress: dict[str, Any] = json.loads(metadata["progress"])
    except (ContainerError, KeyError, OSError) as error:
        raise ResumeError(f"{path}: {error}; delete it to begin anew") from error
    state.model.load_state_dict(_part(tensors, "model."))
    state.best.update(_part(tensors, "best."))
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _part(tensors, "adam.").items():
        index, key = name.split(".", 1)
        moments.setdefault(int(index), {})[key] = value
    state.optimiser.load_state_dict({**state.optimiser.state_dict(), "state": moments})
    state.generator.set_state(tensors["generator"])
    torch.set_rng_state(tensors["global"])
    return progress


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
