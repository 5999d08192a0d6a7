"""A text encoder whose top layers are trained with the backbone, on the clicks: end-to-end training as in TransRec
(arXiv 2206.06190) and MoRec (Yuan et al., SIGIR 2023).

What is below those layers stays as it is, so its outputs are computed once for every text, and a step of training runs
the top layers alone, over the distinct texts of its batch.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import normalize

from features.text import TextEncoder
from lab.text_models.encoders import UnknownTextModelError, encoder_layers
from model.backbone.dssm import make_foundation
from model.backbone.foundation import FoundationBackbone
from model.backbone.shape import BackboneShape
from model.config import BackboneConfig
from model.whole_files import whole_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LINEAGE = "tuned.json"
"""File in a tuned encoder's folder that says what it was made of."""
RATE = 0.1
"""Learning rate of the encoder's layers, as a share of the backbone's."""
_AT_ONCE = 256
_PROBED, _NEAR = 8, 1e-3


@dataclass(frozen=True)
class LowerStates:
    """What comes out of the frozen layers, for every distinct text; texts of equal length stand together, unpadded."""

    place: Mapping[str, int]
    """Number of each text, from 1; a blank text has 0 and no states."""
    states: tuple[Tensor, ...]
    """Per length in tokens, float32 `(texts, tokens, h)`."""
    group: Tensor
    """For each number, which of `states` holds it, int64; -1 for the blank text."""
    row: Tensor
    """For each number, its row there, int64."""

    @staticmethod
    def of(encoder: TextEncoder, texts: Sequence[str], tuned: int) -> LowerStates:
        """Runs all but the `tuned` top layers of the encoder over the texts."""
        network = encoder.network
        distinct = list(dict.fromkeys(text for text in map(encoder.prepare, texts) if text))
        tokens = network[0].tokenizer(distinct, truncation=True, max_length=network.max_seq_length)["input_ids"]
        by_length: dict[int, list[int]] = {}
        for number, ids in enumerate(tokens):
            by_length.setdefault(len(ids), []).append(number)
        group, row = torch.full((len(distinct) + 1,), -1), torch.zeros(len(distinct) + 1, dtype=torch.int64)
        states = []
        for number, (_, members) in enumerate(sorted(by_length.items())):
            at = torch.tensor(members) + 1
            group[at], row[at] = number, torch.arange(len(members))
            states.append(_lower(network, torch.tensor([tokens[member] for member in members]), tuned))
        return LowerStates({text: number + 1 for number, text in enumerate(distinct)}, tuple(states), group, row)


@torch.no_grad()
def _lower(network: SentenceTransformer, tokens: Tensor, tuned: int) -> Tensor:
    """Outputs of all but the top layers for token ids of one length, `(texts, tokens)`."""
    parts = []
    for ids in torch.split(tokens, _AT_ONCE):
        out = network[0].auto_model(input_ids=ids, attention_mask=torch.ones_like(ids), output_hidden_states=True)
        parts.append(out.hidden_states[-1 - tuned].clone())
    return torch.cat(parts)


class TopLayers(nn.Module):
    """The tuned layers and what makes a vector of their output.

    Each weight is its first value plus `RATE` times a trained one that begins at 0: under Adam it moves at that share
    of the backbone's rate, and weight decay pulls it to where it began, not to 0 (L2-SP: Li et al., ICML 2018).
    """

    def __init__(self, network: SentenceTransformer, tuned: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(*copy.deepcopy(list(encoder_layers(network))[-tuned:])).requires_grad_(False)
        self.pooling = copy.deepcopy(nn.ModuleList(list(network)[1:])).requires_grad_(False)
        moved = {name.replace(".", "/"): torch.zeros_like(value) for name, value in self.layers.named_parameters()}
        self.moved = nn.ParameterDict(moved)
        self.width = int(network.get_embedding_dimension() or 0)

    def weights(self) -> dict[str, Tensor]:
        """The layers' weights as they are now, by name."""
        return {
            name: value + RATE * self.moved[name.replace(".", "/")] for name, value in self.layers.named_parameters()
        }

    def forward(self, states: Tensor, weights: Mapping[str, Tensor]) -> Tensor:
        """Vectors of length 1, `(texts, width)`, of the states of unpadded texts, `(texts, tokens, h)`."""
        out = functional_call(self.layers, dict(weights), (states,))
        features = {"token_embeddings": out, "attention_mask": torch.ones(out.shape[:2], dtype=torch.int64)}
        for module in self.pooling:
            features = module(features)
        out = features["sentence_embedding"]
        return normalize(out, dim=1)


class TunedText(nn.Module):
    """Stands where a backbone maps items' text vectors; it gets the numbers of their texts and makes the vectors."""

    def __init__(self, lower: LowerStates, top: TopLayers, mapped: nn.Module) -> None:
        super().__init__()
        self.lower, self.top, self.mapped = lower, top, mapped

    def forward(self, number: Tensor) -> Tensor:
        """Numbers of texts, float32 `(n, 1)`, to the text aspect, `(n, d)`. Each distinct text is run once."""
        distinct, where = torch.unique(number[:, 0].long(), return_inverse=True)
        out: Tensor = self.mapped(self.vectors(distinct))[where]
        return out

    def vectors(self, number: Tensor) -> Tensor:
        """The encoder's vectors of distinct texts by their numbers `(t,)`, `(t, width)`; zeros for the blank text."""
        group, row = self.lower.group[number], self.lower.row[number]
        weights, at, parts = self.top.weights(), [], []
        for group_number in torch.unique(group).tolist():
            (mine,) = torch.where(group == group_number)
            at.append(mine)
            if group_number < 0:
                parts.append(torch.zeros(len(mine), self.top.width))
            else:
                parts.append(self.top(self.lower.states[group_number][row[mine]], weights))
        return torch.cat(parts)[torch.cat(at).argsort()]


@dataclass(frozen=True)
class Tuning:
    """An encoder that is to be trained with a backbone on the items of one catalogue."""

    encoder: TextEncoder
    tuned: int
    """Top layers that are trained."""
    lower: LowerStates

    @staticmethod
    def of(encoder: TextEncoder, tuned: int, texts: Sequence[str]) -> Tuning:
        """Runs the frozen layers over the texts. Raises UnknownTextModelError for an encoder whose top layers do not
        run by themselves."""
        tuning = Tuning(encoder, tuned, LowerStates.of(encoder, texts, tuned))
        probe = list(tuning.lower.place)[:_PROBED]
        with torch.no_grad():
            expected = tuning.text_aspect(nn.Identity()).eval()(torch.from_numpy(tuning.numbers(probe))).numpy()
        if not np.allclose(expected, encoder.encode(probe), atol=_NEAR):
            raise UnknownTextModelError(f"{encoder.model}: its top layers need more than what is below them gives")
        return tuning

    def numbers(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The numbers of texts, `(n, 1)`: they stand where a frozen encoder's vectors would."""
        place = self.lower.place
        return np.array([[place.get(self.encoder.prepare(text), 0)] for text in texts], dtype=np.float32)

    def text_aspect(self, mapped: nn.Module) -> TunedText:
        """A new one that begins with the encoder's own weights."""
        return TunedText(self.lower, TopLayers(self.encoder.network, self.tuned), mapped)

    def backbone(self, config: BackboneConfig, shape: BackboneShape, digest: str) -> FoundationBackbone:
        """An untrained foundation model with the encoder in it; else it begins as one that reads frozen vectors."""
        width = int(self.encoder.network.get_embedding_dimension() or 0)
        model = make_foundation(config.model_copy(update={"text_width": width}), shape, digest)
        assert model.item_text is not None
        model.item_text = self.text_aspect(model.item_text)
        return model

    def save(self, folder: Path, trained: FoundationBackbone, lineage: Mapping[str, object]) -> None:
        """Writes the encoder that was trained in a backbone as a model of its own, which `features.text_model` takes.

        `LINEAGE` beside its weights holds `lineage`, and what was tuned in which encoder. Raises OSError.
        """
        assert isinstance(trained.item_text, TunedText)
        network = TextEncoder(self.encoder.model).network
        layers = nn.Sequential(*list(encoder_layers(network))[-self.tuned :])
        with torch.no_grad():
            for name, value in trained.item_text.top.weights().items():
                layers.get_parameter(name).copy_(value)
        metadata = {
            "encoder": self.encoder.model,
            "layers_tuned": self.tuned,
            "backbone": trained.fingerprint,
            **lineage,
        }
        with whole_folder(folder) as scratch:
            network.save(str(scratch), create_model_card=False)
            (scratch / LINEAGE).write_text(json.dumps(metadata, indent=2) + "\n", encoding="utf-8")
