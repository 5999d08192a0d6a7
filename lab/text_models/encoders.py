"""Text encoders of growing size: hashed words, MiniLM cut after so many layers, or any model in a folder."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.feature_extraction.text import HashingVectorizer

from features.text import DEFAULT_MODEL, TextEncoder
from model.paths import user_path
from model.whole_files import whole_folder

HASHED = "hashed-words"
CUTS = {"minilm-1": 1, "minilm-2": 2, "minilm-3": 3}
"""Layers of the default model that are kept, by name."""
WHOLE = "minilm-6"
TEXT_MODELS = (HASHED, *CUTS, WHOLE)
HASHED_WIDTH = 384
"""Width of MiniLM's vectors, so that models of either kind have the same number of parameters."""
_SAMPLE = 256


class UnknownTextModelError(ValueError):
    """There is no text model of that name; the message lists what there is."""


class HashedWords:
    """Each word adds 1 or -1 to the column that its hash names (Weinberger et al., ICML 2009); length 1.

    Nothing is learned, and words that differ have nothing in common, however near their meaning.
    """

    identity = HASHED
    parameters = 0

    def __init__(self) -> None:
        self._words = HashingVectorizer(n_features=HASHED_WIDTH, norm="l2", alternate_sign=True)

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors, float32 `(len(texts), HASHED_WIDTH)`; a text without words gives zeros."""
        return np.asarray(self._words.transform(texts).toarray(), dtype=np.float32)


def ensure_known(name: str) -> None:
    """Raises UnknownTextModelError for what is neither one of `TEXT_MODELS` nor a folder."""
    if name not in TEXT_MODELS and not user_path(Path(name)).is_dir():
        raise UnknownTextModelError(
            f"no text model {name!r}: there are {', '.join(TEXT_MODELS)}, and any folder that holds a model of "
            "sentence-transformers"
        )


def text_encoder(name: str, cache_dir: Path, *, keep: bool = True) -> HashedWords | TextEncoder:
    """The encoder of a name or folder; its vectors are kept in the cache with `keep`.

    Raises UnknownTextModelError or TextModelUnavailableError.
    """
    ensure_known(name)
    if name == HASHED:
        return HashedWords()
    model = str(cut_model(CUTS[name], cache_dir)) if name in CUTS else DEFAULT_MODEL
    if name not in TEXT_MODELS:
        model = str(user_path(Path(name)).absolute())
    return TextEncoder(model, cache_dir if keep else None)


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
