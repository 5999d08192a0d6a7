"""Text encoders of growing size: hashed words, MiniLM cut after so many layers, or any model in a folder."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from features.text import DEFAULT_MODEL, TextEncoder
from model.near_names import did_you_mean
from model.paths import user_path
from model.whole_files import whole_folder

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn

HASHED = "hashed-words"
CUTS = {"minilm-1": 1, "minilm-2": 2, "minilm-3": 3}
"""Layers of the default model that are kept, by name."""
WHOLE = "minilm-6"
_LAYERS = {**CUTS, WHOLE: 6}
TEXT_MODELS = (HASHED, *CUTS, WHOLE)
HASHED_WIDTH = 384
"""Width of MiniLM's vectors, so that models of either kind have the same number of parameters."""
_SAMPLE = 256
_TUNED = re.compile(r"(?P<base>.+):tuned-(?P<layers>[0-9]{1,3})")


class UnknownTextModelError(ValueError):
    """There is no text model of that name; the message lists what there is."""


@dataclass(frozen=True)
class TextModel:
    """A text encoder as the command names it."""

    base: str
    """One of `TEXT_MODELS`, or a folder."""
    tuned: int = 0
    """Top layers that are trained with the backbone; 0 where the encoder stays frozen."""

    @staticmethod
    def of(name: str) -> TextModel:
        """`BASE`, or `BASE:tuned-N` for N top layers that are tuned. Raises UnknownTextModelError for what there is
        not: no such base, nothing in it that could be tuned, or fewer layers than N."""
        found = _TUNED.fullmatch(name)
        model = TextModel(found["base"], int(found["layers"])) if found else TextModel(name)
        ensure_known(model.base)
        if found:
            _ensure_tunable(name, model)
        return model


class HashedWords:
    """Each word adds 1 or -1 to the column that its hash names (Weinberger et al., ICML 2009); length 1.

    Nothing is learned, and words that differ have nothing in common, however near their meaning.
    """

    identity = HASHED
    parameters = 0

    def __init__(self) -> None:
        from sklearn.feature_extraction.text import HashingVectorizer

        self._words = HashingVectorizer(n_features=HASHED_WIDTH, norm="l2", alternate_sign=True)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors, float32 `(len(texts), HASHED_WIDTH)`; a text without words gives zeros."""
        return np.asarray(self._words.transform(texts).toarray(), dtype=np.float32)


def ensure_known(name: str) -> None:
    """Raises UnknownTextModelError for what is neither one of `TEXT_MODELS` nor a folder."""
    if name not in TEXT_MODELS and not user_path(Path(name)).is_dir():
        raise UnknownTextModelError(
            f"no text model {name!r}: there are {', '.join(TEXT_MODELS)}, and any folder that holds a model of "
            "sentence-transformers; each of MiniLM and of a folder also with its top layer tuned, as minilm-1:tuned-1"
            f"{did_you_mean(name, TEXT_MODELS)}"
        )


def _ensure_tunable(name: str, model: TextModel) -> None:
    if model.base == HASHED:
        raise UnknownTextModelError(f"{name}: {HASHED} has no layers that could be tuned: name {HASHED} or a MiniLM")
    layers = _LAYERS.get(model.base)
    if layers is None:
        layers = len(encoder_layers(TextEncoder(_folder(model.base)).network))
    if not 1 <= model.tuned <= layers:
        raise UnknownTextModelError(f"{name}: {model.base} has {layers} layers, so from 1 to {layers} can be tuned")


def encoder_layers(network: SentenceTransformer) -> Sequence[nn.Module]:
    """The layers of a BERT-like model, lowest first. Raises UnknownTextModelError for a model of another kind."""
    layers = getattr(getattr(getattr(network[0], "auto_model", None), "encoder", None), "layer", None)
    if layers is None:
        raise UnknownTextModelError("only a BERT-like model can be tuned, whose layers are in encoder.layer")
    return cast("Sequence[nn.Module]", layers)


def text_encoder(name: str, cache_dir: Path, *, keep: bool = True) -> HashedWords | TextEncoder:
    """The encoder of a name or folder; its vectors are kept in the cache with `keep`.

    Raises UnknownTextModelError or TextModelUnavailableError.
    """
    ensure_known(name)
    if name == HASHED:
        return HashedWords()
    model = str(cut_model(CUTS[name], cache_dir)) if name in CUTS else DEFAULT_MODEL
    if name not in TEXT_MODELS:
        model = _folder(name)
    return TextEncoder(model, cache_dir if keep else None)


def _folder(name: str) -> str:
    return str(user_path(Path(name)).absolute())


def cut_model(layers: int, cache_dir: Path) -> Path:
    """The folder of the default model without what follows its first `layers` layers; made once.

    `features.text_model` takes it like any other.
    """
    folder = cache_dir / "text-models" / f"minilm-{layers}"
    finished = "modules.json"
    if not (folder / finished).is_file():
        with whole_folder(folder, finished=finished) as scratch:
            network = TextEncoder().network
            bert = network[0].auto_model
            bert.encoder.layer = bert.encoder.layer[:layers]
            bert.config.num_hidden_layers = layers
            network.save(str(scratch), create_model_card=False)
    return folder


@dataclass(frozen=True)
class TextEncoderCost:
    """Cost of a text encoder."""

    name: str
    width: int
    parameters: int
    """Numbers in its weights, word embeddings included."""
    ms_per_text: float
    """Processor time, a text at a time's share of a batch of 64."""


def cost_of(name: str, cache_dir: Path, texts: Sequence[str]) -> TextEncoderCost:
    """Measures the time of encoding some of the texts, without loading the model."""
    sample = list(dict.fromkeys(text for text in texts if text.strip()))[:_SAMPLE]
    encoder = text_encoder(name, cache_dir, keep=False)
    width = encoder.encode(sample[:1]).shape[1]
    begun = time.process_time()
    encoder.encode(sample[1:])
    seconds = time.process_time() - begun
    return TextEncoderCost(name, width, encoder.parameters, 1e3 * seconds / max(len(sample) - 1, 1))
