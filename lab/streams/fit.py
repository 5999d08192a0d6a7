"""Whether a configuration declares what a stream holds, and one that does."""

from __future__ import annotations

from itertools import product
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from features.config import FeatureConfig
from lab.streams import Catalogue, StreamError
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.recording import Recording
from model.config import DomainConfig
from model.encoding.domain import FACETS, UNKNOWN, Domain
from streaming.config import Config


def sections_for(catalogue: Catalogue, base: Config) -> dict[str, Any]:
    """The sections `domains` and `features` for a stream: its facet values and fields, the rest as in `base`.

    Raises StreamError for names that a configuration cannot hold.
    """
    values = {facet: catalogue.space.values[facet][1:] for facet in FACETS}
    fields = {"user_fields": catalogue.user_fields, "item_fields": catalogue.item_fields}
    try:
        domains = DomainConfig.model_validate(values)
        features = FeatureConfig.model_validate(base.features.model_dump() | fields)
    except ValidationError as error:
        raise StreamError(f"the stream's fields or domains fit no configuration: {error.errors()[0]['msg']}") from error
    return {"domains": domains, "features": features}


def fitted(base: Config, catalogue: Catalogue) -> Config:
    """`base` with the domains and fields of a stream. Raises StreamError if no kernel group takes a domain of it."""
    config = base.model_copy(update=sections_for(catalogue, base))
    _ensure_groups(config, catalogue)
    return config


def config_for(base: Config, choice: StreamChoice, console: Console) -> Config:
    """`base` made to fit the chosen stream; `base` itself for MovieLens 100K. Raises StreamError."""
    if choice.source() is None:
        return base
    catalogue = open_recording(base, choice, console).catalogue
    return base if catalogue is None else fitted(base, catalogue)


def ensure_fits(config: Config, recording: Recording, arguments: str) -> None:
    """Raises StreamError if `config` leaves out a field or facet value of the stream, or no group takes a domain.

    `arguments` name the stream as on the command line. A configuration may declare more than a stream holds.
    """
    catalogue = recording.catalogue
    if catalogue is None:
        return
    missing = _missing(config, catalogue)
    if missing:
        raise StreamError(
            f"the configuration does not declare what the stream holds ({'; '.join(missing)}): make one that does by "
            f"`driftline config {arguments}`, and give it to every process with --config"
        )
    _ensure_groups(config, catalogue)


def _missing(config: Config, catalogue: Catalogue) -> list[str]:
    found = []
    declared = config.domain_space().values
    for facet in FACETS:
        lacking = [value for value in catalogue.space.values[facet] if value not in declared[facet]]
        if lacking:
            found.append(f"domains.{facet} lacks {', '.join(lacking[:5])}{', ...' if len(lacking) > 5 else ''}")
    for key in ("user_fields", "item_fields"):
        known = {spec.name: spec.kind for spec in getattr(config.features, key)}
        wrong = [spec.name for spec in getattr(catalogue, key) if known.get(spec.name) != spec.kind]
        if wrong:
            found.append(f"features.{key} lacks {', '.join(wrong)}, or calls it another kind")
    return found


def _ensure_groups(config: Config, catalogue: Catalogue) -> None:
    """Only declared values are looked at: a log's `unknown` may belong to nobody, as in any other traffic."""
    for values in product(*(catalogue.space.values[facet][1:] or (UNKNOWN,) for facet in FACETS)):
        domain = Domain(*values)
        if config.group_of(domain) is None:
            raise StreamError(
                f"no kernel group takes the stream's domain {domain.key}: add a [[groups]] without limits as the last"
            )
