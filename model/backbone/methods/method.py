"""What all methods have in common: parameters of one scene, put into a copy of the network that shares the rest."""

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
    """A scene that has parameters of its own, as a card tells it."""

    scene: int
    """Index of the scene."""
    method: MethodName
    frozen: tuple[Level, ...]
    """Levels into which the method put nothing."""

    def to_json(self) -> dict[str, Any]:
        """For a card."""
        return {"scene": self.scene, "method": self.method, "frozen": list(self.frozen)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> SceneEntry:
        """From a card. Raises KeyError for a missing name."""
        return SceneEntry(data["scene"], data["method"], tuple(data["frozen"]))


class SceneMethod(nn.Module, ABC):
    """The parameters that one scene has for itself. Put into a network as they begin, they change no answer."""

    @abstractmethod
    def put_into(self, network: FoundationBackbone) -> None:
        """Puts the parts into the scene's `network`, whose tensors belong to all scenes: none of them is written to."""

    def learned(self) -> int:
        """Numbers that the scene has for itself."""
        return sum(parameter.numel() for parameter in self.parameters())

    def prune(self) -> bool:
        """Gives up what the scene can do without once it has learned; whether the rest is to be trained again."""
        return False


MakeMethod = Callable[[FoundationBackbone, Collection[Level], Sequence[SceneMethod]], SceneMethod]
"""A method of its own for a scene: from the network that it starts from, frozen levels and the older scenes' methods.

Raises BackboneRefused where the method does not fit the network."""


def key_of(name: str) -> str:
    """A parameter's name in the model as a key of a module's dictionary, which may hold no dot."""
    return name.replace(".", "/")


def home_of(network: FoundationBackbone, key: str) -> tuple[nn.Module, str]:
    """The module that holds what `key` names, and its name there."""
    path, _, attribute = key.replace("/", ".").rpartition(".")
    return network.get_submodule(path), attribute


def dense_matrices(network: FoundationBackbone, frozen: Collection[Level]) -> Iterator[tuple[str, Tensor]]:
    """Names and values of the dense layers' matrices outside the frozen levels: `(out, in)`, of experts `(e, in, out)`.

    Tables, convolutions and recurrent layers are not among them.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.Linear | Experts) and level_of(path) not in frozen:
            matrix = module.second if isinstance(module, Experts) else module.weight
            yield f"{path}.{'second' if isinstance(module, Experts) else 'weight'}", matrix


class OwnParameters(nn.ParameterDict):
    """Copies of parameters of the network that a scene has in their place."""

    @staticmethod
    def of(network: FoundationBackbone, names: Collection[str]) -> OwnParameters:
        """Copies of the parameters of these names, as they are now."""
        return OwnParameters({key_of(name): network.get_parameter(name).detach().clone() for name in names})

    def put_into(self, network: FoundationBackbone) -> None:
        """Sets the copies in place of the network's own."""
        for key, parameter in self.items():
            module, attribute = home_of(network, key)
            setattr(module, attribute, parameter)
