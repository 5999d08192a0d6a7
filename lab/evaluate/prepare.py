"""The live half of a stream made ready once for all adapters: representations, live features, order of labels."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from features.live.features import LiveFeatures, RequestItems
from lab.evaluate.config import EvaluationConfig
from lab.evaluate.known_labels import Labels, live_histories, live_outcomes
from lab.evaluate.label_times import decided_labels
from lab.evaluate.pretrained import Pretrained
from lab.kernel_start import count_log
from lab.represented import represent_pairs
from lab.streams import Chunk, Stream
from model.config import NO_HISTORY
from model.encoding.history import PastEvents


@dataclass(frozen=True)
class PreparedStream:
    """The live half, example by example, in the order of the requests; `n` examples."""

    x: NDArray[np.float16]
    live: NDArray[np.float32]
    values: NDArray[np.int16]
    frozen_logit: NDArray[np.float32]
    domain: NDArray[np.int64]
    user: NDArray[np.int64]
    item: NDArray[np.int64]
    request: NDArray[np.int64]
    time: NDArray[np.float64]
    """Original event time of the request, seconds."""
    label: NDArray[np.float32]
    """Label for training at the end of the window; wrong or missing where the script says so."""
    truth: NDArray[np.float32]
    """What the user really did, on which measures are computed."""
    probability: NDArray[np.float32]
    decided: NDArray[np.int64]
    """Number of the scoring batch after which the label is known."""
    corrected: NDArray[np.int64]
    """Number of the scoring batch after which a click that came late is known; -1 where there was none."""
    batch: NDArray[np.int64]
    """Number of the scoring batch."""
    conversion: NDArray[np.float32] | None = None
    """Whether the user clicked and converted; None for a stream without conversions."""
    cvr_logit: NDArray[np.float32] | None = None
    """Logit of a conversion once clicked, by the frozen model; 0 without a conversion tower."""
    query: NDArray[np.int64] | None = None
    """Position of the query, `NO_QUERY` for a recommendation; None where nobody asks for anything."""
    relevance: NDArray[np.float32] | None = None
    """How relevant the item is to the query, as judged, nan where nobody did; None for a stream without judgements."""
    relevance_logit: NDArray[np.float32] | None = None
    """Logit of its relevance by the frozen model; None for a backbone without this task."""

    def __len__(self) -> int:
        return len(self.label)

    @property
    def batches(self) -> int:
        """Number of scoring batches."""
        return int(self.batch[-1]) + 1

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """All columns by name, for a file."""
        return {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}


def prepare(
    stream: Stream, pretrained: Pretrained, config: EvaluationConfig, past: PastEvents | None = None
) -> PreparedStream:
    """Represents every shown item of the live half and computes its live features as they were at that time.

    `past` is what a user encoder reads before each request: by default the live histories.
    """
    chunk = Chunk.concat(list(stream.chunks("live")))
    row, column = np.nonzero(chunk.shown)
    user, item, domain = chunk.user[row], chunk.items[row, column], chunk.domain[row]
    known = decided_labels(chunk, config)
    past = live_histories(stream, pretrained, known) if past is None else past
    query = chunk.query_of(row)
    pairs = represent_pairs(pretrained.backbone, pretrained.profiles, user, item, domain, past, query)
    residual = (known.label - 1.0 / (1.0 + np.exp(-pairs.frozen_logit))).astype(np.float32)
    return PreparedStream(
        x=pairs.x,
        live=_live(stream, pretrained, config, known, pairs.content, residual),
        values=pretrained.log.values[item],
        frozen_logit=pairs.frozen_logit,
        domain=domain,
        user=user,
        item=item,
        request=row.astype(np.int64),
        time=chunk.time[row],
        label=known.label.astype(np.float32),
        truth=chunk.clean_click[row, column].astype(np.float32),
        probability=chunk.probability[row, column],
        decided=known.decided[row],
        corrected=known.corrected,
        batch=known.batch[row],
        conversion=None if chunk.conversions is None else chunk.conversions.happened[row, column].astype(np.float32),
        cvr_logit=None if chunk.conversions is None else pairs.cvr_logit,
        query=query,
        relevance=None if chunk.relevance is None else chunk.relevance[row, column],
        relevance_logit=pairs.relevance_logit,
    )


def _after_log(pretrained: Pretrained, config: EvaluationConfig) -> LiveFeatures:
    """The live rows at the begin of the live half."""
    live = LiveFeatures(replace(pretrained.layout, history=NO_HISTORY), config.live)
    before = np.arange(len(pretrained.log.examples), dtype=np.float64) - 1e9
    count_log(live, pretrained.log, before / config.requests_per_second)
    return live


def _live(  # noqa: PLR0917
    stream: Stream,
    pretrained: Pretrained,
    config: EvaluationConfig,
    known: Labels,
    content: NDArray[np.float32],
    residual: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Live features of every example, `(n, k)`, from the pretraining log and the labels known before its batch.

    Live times are those of the evaluation's pace; the log is placed before them.
    """
    live = _after_log(pretrained, config)
    played = np.arange(len(known.chunk)) / config.requests_per_second
    outcomes = live_outcomes(stream, pretrained, known, content, residual, played)
    out = np.empty((len(content), pretrained.layout.width), dtype=np.float32)
    for rows, asked, decided, late in known.before(outcomes):
        live.update(decided)
        live.correct(late)
        items = RequestItems(asked.domain, asked.content, asked.values)
        out[rows] = live.features(asked.time, asked.user_id, items, asked.items)
    return out
