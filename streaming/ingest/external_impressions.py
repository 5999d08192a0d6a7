"""Impressions of other systems, represented here from the feature store and the frozen backbone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING

from model.backbone.schema import BackboneRefused
from streaming.config import Config
from streaming.events import ImpressionEvent, Payload, RefusedError, ServedImpression, encode_traffic
from streaming.record_sizes import MAX_RECORD_BYTES
from streaming.retries import Throttle

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from features.represent import Representer
    from features.represented import Represented
    from features.store.feature_store import FeatureStore

log = logging.getLogger(__name__)

_TRY_EVERY_S = 30.0
_RECORD_OVERHEAD = 1_024
"""Upper bound of what Kafka adds to a value, bytes."""


class ExternalImpressions:
    """Represents such impressions. The first one loads the backbone, so that without any PyTorch is not imported."""

    def __init__(self, config: Config, store: FeatureStore) -> None:
        self._config = config
        self._store = store
        self._representer: Representer | None = None
        self._fingerprint = ""
        self._absent: str | None = None
        self._try_again = Throttle(_TRY_EVERY_S, at_once=False)

    def encode(self, event: ImpressionEvent) -> bytes:
        """The impression as a `traffic` record: frozen logits in both arms, kernel version 0.

        Raises RefusedError if it cannot be represented, also for lack of a backbone, or is too large; raises the errors
        in `batch.AWAY` while the store or the language model does not answer.
        """
        if self._representer is None:
            self._load()
        assert self._representer is not None
        try:
            query = self._representer.query(event.query) if event.query else None
            represented = self._representer.represent(event.user_id, event.items, event.domain, event.time, query)
            finite = represented.finite().tolist()
            value = encode_traffic(self._served(event, represented))
        except (ValueError, TypeError, LookupError) as error:
            raise RefusedError("not_represented", f"{type(error).__name__}: {error}") from error
        if not all(finite):  # the processor would refuse the impression
            bad = event.items[finite.index(False)]
            raise RefusedError("not_represented", f"the backbone gives item {bad!r} no finite representation or score")
        if len(value) > MAX_RECORD_BYTES - _RECORD_OVERHEAD:
            raise RefusedError("too_large", f"{len(value)} bytes for {len(event.items)} items")
        return value

    def forget(self) -> None:
        """Empties the caches after profiles have changed, so that the next impression reads them again."""
        if self._representer is not None:
            self._representer.forget()

    def _served(self, event: ImpressionEvent, represented: Represented) -> ServedImpression:
        logit = represented.frozen_logit.numpy()
        return ServedImpression.of(
            request_id=event.request_id,
            time=event.time,
            user_id=event.user_id,
            domain=event.domain,
            items=event.items,
            fingerprint=self._fingerprint,
            kernel_version=0,
            arm="other",
            arrays={
                "x": represented.x.numpy(),
                "live": represented.live.numpy(),
                "content": represented.content.numpy(),
                "values": represented.values,
                "frozen_logit": logit,
                "live_logit": logit,
                **_of_conversions(represented),
            },
        )

    def _load(self) -> None:
        """Raises RefusedError while there is no backbone that can be used; looks for one again only now and then."""
        from features.represent import Representer
        from streaming.backbone import open_backbone

        if self._absent is not None and not self._try_again.due():
            raise RefusedError("not_represented", self._absent)
        log.info("impressions of another system: loading the backbone in %s", self._config.backbone_dir)
        try:
            loaded = open_backbone(self._config)
        except BackboneRefused as error:
            self._absent = str(error)
            self._try_again.due()
            raise RefusedError("not_represented", self._absent) from error
        self._representer = Representer(
            loaded.backbone,
            loaded.encoder,
            self._store,
            loaded.layout,
            self._config.domain_space(),
            scope_of=self._config.scope_of,
            queries=loaded.queries(self._config.features),
        )
        self._fingerprint = loaded.backbone.fingerprint


def _of_conversions(represented: Represented) -> Mapping[Payload, NDArray[np.float32]]:
    """The conversion task's fields, with frozen logits in both arms; empty for a backbone of clicks alone."""
    if represented.cvr_live is None or represented.cvr_logit is None:
        return {}
    logit = represented.cvr_logit.numpy()
    return {"cvr_live": represented.cvr_live.numpy(), "cvr_frozen_logit": logit, "cvr_live_logit": logit}
