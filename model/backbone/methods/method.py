"""The interface of all methods: one scene's parameters, put into a copy of the network that shares everything else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor, nn

from model.backbone.foundation import FoundationBackbone
from model.backbone.levels import Level, level_of
from model.backbone.trunk import Experts

MethodName = Literal["lora", "houlsby", "peterrec", "peterrec-parallel", "conure"]
METHOD_NAMES: tuple[MethodName, ...] = get_args(MethodName)


@dataclass(frozen=True)
class SceneEntry:
    """The description of a scene with parameters of its own, as the backbone's card stores it."""

    scene: int
    """Index of the scene."""
    method: MethodName
    frozen: tuple[Level, ...]
    """Levels that the method left unchanged."""

    def to_json(self) -> dict[str, Any]:
        """As JSON, for the card."""
        return {"scene": self.scene, "method": self.method, "frozen": list(self.frozen)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> SceneEntry:
        """From a card's JSON. Raises KeyError for a missing key."""
        return SceneEntry(data["scene"], data["method"], tuple(data["frozen"]))


class SceneMethod(nn.Module, ABC):
    """One scene's own parameters. At their initial values they change no answer of the network."""

    @abstractmethod
    def put_into(self, network: FoundationBackbone) -> None:
        """Adds the parameters to the scene's `network`. Its tensors are shared by all scenes and must not be
        changed."""

    def learned(self) -> int:
        """Number of parameters that the scene has for itself."""
        return sum(parameter.numel() for parameter in self.parameters())

    def prune(self) -> bool:
        """Removes parameters that the scene needs least; returns whether the others must then be trained again."""
        return False


MakeMethod = Callable[[FoundationBackbone, Collection[Level], Sequence[SceneMethod]], SceneMethod]
"""Makes a scene's method from the network that it starts from, the frozen levels and the older scenes' methods.

Raises BackboneRefused if the method does not fit the network."""


def key_of(name: str) -> str:
    """A parameter's name as a key of `nn.ParameterDict`, whose keys may hold no dot."""
    return name.replace(".", "/")


def home_of(network: FoundationBackbone, key: str) -> tuple[nn.Module, str]:
    """The module that holds the parameter of `key`, and the parameter's name in it."""
    path, _, attribute = key.replace("/", ".").rpartition(".")
    return network.get_submodule(path), attribute


def dense_matrices(network: FoundationBackbone, frozen: Collection[Level]) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the dense layers' matrices outside the frozen levels: `(out, in)`, for experts `(e, in,
    out)`.

    Embedding tables, convolutions and recurrent layers are left out.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.Linear | Experts) and level_of(path) not in frozen:
            matrix = module.second if isinstance(module, Experts) else module.weight
            yield f"{path}.{'second' if isinstance(module, Experts) else 'weight'}", matrix


class OwnParameters(nn.ParameterDict):
    """Copies of some of the network's parameters, which the scene trains and uses in place of the originals."""

    @staticmethod
    def of(network: FoundationBackbone, names: Collection[str]) -> OwnParameters:
        """Copies of the parameters with these names, at their present values."""
        return OwnParameters({key_of(name): network.get_parameter(name).detach().clone() for name in names})

    def put_into(self, network: FoundationBackbone) -> None:
        """Replaces the network's parameters by the copies."""
        for key, parameter in self.items():
            module, attribute = home_of(network, key)
            setattr(module, attribute, parameter)
