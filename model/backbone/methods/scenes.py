"""A foundation backbone in which some scenes have parameters of their own."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from model.backbone.dssm import make_foundation
from model.backbone.foundation import FoundationBackbone
from model.backbone.interface import fingerprint
from model.backbone.levels import Level
from model.backbone.methods.conure import SceneConure
from model.backbone.methods.houlsby import SceneHoulsby
from model.backbone.methods.lora import SceneLoRA
from model.backbone.methods.method import MakeMethod, MethodName, SceneEntry, SceneMethod
from model.backbone.methods.peterrec import ScenePeterRec
from model.backbone.schema import BackboneRefused
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.encoding.features import FeatureBatch

METHODS: dict[MethodName, MakeMethod] = {
    "lora": SceneLoRA,
    "houlsby": SceneHoulsby,
    "peterrec": ScenePeterRec,
    "peterrec-parallel": partial(ScenePeterRec, parallel=True),
    "conure": SceneConure,
}


class BackboneWithScenes(FoundationBackbone):
    """Answers each scene of `entries` by a network of its own, all other scenes by the old network, bit for bit.

    The networks share their tensors; `scenes` holds the parameters that differ. Content vectors are common to all.
    """

    def __init__(
        self,
        config: BackboneConfig,
        shape: BackboneShape,
        encoder_digest: str = "",
        entries: Sequence[SceneEntry] = (),
    ) -> None:
        super().__init__(config, shape, encoder_digest)
        self.entries: tuple[SceneEntry, ...] = ()
        self.scenes = nn.ModuleList()
        self._networks: dict[int, FoundationBackbone] = {}
        for entry in entries:
            self.add(entry)

    @staticmethod
    def of(model: FoundationBackbone) -> BackboneWithScenes:
        """`model` itself if it has this class, else a `BackboneWithScenes` with its parameters and no scene yet.

        Raises BackboneRefused for two towers.
        """
        if isinstance(model, BackboneWithScenes):
            return model
        if model.config.trunk == "dssm":
            raise BackboneRefused(
                'backbone.trunk is "dssm", whose vectors of items are kept for all scenes: no scene can have '
                "parameters of its own; take --method full"
            )
        made = BackboneWithScenes(model.config, model.shape, model.encoder_digest)
        made.load_state_dict(model.state_dict())
        return made.requires_grad_(False)

    def add(self, entry: SceneEntry) -> SceneMethod:
        """Gives a scene trainable parameters of its own.

        Raises BackboneRefused if the method does not fit, ValueError for a scene that does not exist or already has
        parameters, KeyError for an unknown method.
        """
        if not 0 < entry.scene < self.shape.domain_sizes[0] or entry.scene in (one.scene for one in self.entries):
            raise ValueError(f"scene {entry.scene} does not exist or already has parameters of its own")
        method = self.made(entry.method, entry.frozen)
        self.entries = (*self.entries, entry)
        self.scenes.append(method)
        return method

    def made(self, name: MethodName, frozen: Sequence[Level]) -> SceneMethod:
        """Untrained parameters for one more scene, which this backbone does not contain yet.

        Raises BackboneRefused if the method does not fit, KeyError for an unknown one.
        """
        method = METHODS[name](self._bare(), tuple(frozen), self._methods())
        if not any(True for _ in method.parameters()):
            raise BackboneRefused(
                f"{name} finds nothing to put its parameters into outside the frozen levels "
                f"{', '.join(frozen)}: leave one out of --freeze"
            )
        return method

    def network(self, method: SceneMethod) -> FoundationBackbone:
        """The network of the scene that `method` belongs to. It shares tensors with this backbone, so training it
        trains this backbone."""
        network = self._bare()
        network.add_module("method", method)
        method.put_into(network)
        return network

    def represent(self, batch: FeatureBatch, statistics: Tensor | None = None) -> Tensor:
        """See `FoundationBackbone`."""
        return self._by_scene(batch.domain, lambda network: FoundationBackbone.represent(network, batch, statistics))

    def predict(self, x: Tensor, domain: Tensor) -> Tensor:
        """See `FoundationBackbone`."""
        return self._by_scene(domain, lambda network: FoundationBackbone.predict(network, x, domain))

    def predict_all(self, x: Tensor, domain: Tensor) -> Tensor:
        """See `FoundationBackbone`."""
        return self._by_scene(domain, lambda network: FoundationBackbone.predict_all(network, x, domain))

    def freeze(self) -> FoundationBackbone:
        """See `FoundationBackbone`."""
        self.zero_grad(set_to_none=True)
        self.requires_grad_(False).eval()
        for entry, method in zip(self.entries, self._methods(), strict=True):
            self._networks[entry.scene] = _merged(self.network(method))
        plan = json.dumps([entry.to_json() for entry in self.entries])
        self._fingerprint = fingerprint(self, self.config.identity, self.encoder_digest, plan)
        return self

    def _by_scene(self, domain: Tensor, answer: Callable[[FoundationBackbone], Tensor]) -> Tensor:
        """The answer of each pair's network, for facet indices `(u, 3)`."""
        scene = domain[:, :1]
        here = {index: scene == index for index in self._networks}
        for index, rows in here.items():
            if rows.all():
                return answer(self._networks[index])
        out = answer(self)
        for index, rows in here.items():
            if rows.any():
                out = torch.where(rows, answer(self._networks[index]), out)
        return out

    def _methods(self) -> list[SceneMethod]:
        return [cast(SceneMethod, method) for method in self.scenes]

    def _bare(self) -> FoundationBackbone:
        """A copy of the network that answers all other scenes: new modules over the same tensors."""
        same: dict[int, object] = {id(tensor): tensor for tensor in (*self.parameters(), *self.buffers())}
        same |= {id(self.scenes): nn.ModuleList(), id(self._networks): {}, id(self.entries): ()}
        return copy.deepcopy(self, same)


def make_with_scenes(
    config: BackboneConfig, shape: BackboneShape, encoder_digest: str, entries: Sequence[SceneEntry]
) -> FoundationBackbone:
    """The foundation model that `config.trunk` asks for, untrained, with the scenes of `entries`, if there are any."""
    if entries:
        return BackboneWithScenes(config, shape, encoder_digest, entries)
    return make_foundation(config, shape, encoder_digest)


def _merged(network: FoundationBackbone) -> FoundationBackbone:
    """Merges every parametrised matrix into a plain one, so that it is not computed again for each request."""
    for module in list(network.modules()):
        for name in list(module.parametrizations) if is_parametrized(module) else []:  # type: ignore[arg-type]
            matrix = getattr(module, name).detach()
            remove_parametrizations(module, name, leave_parametrized=False)
            setattr(module, name, nn.Parameter(matrix, requires_grad=False))
    return network.requires_grad_(False).eval()
