"""Whether a configuration declares what a stream holds, and one that does."""

from __future__ import annotations

import logging
from itertools import product
from typing import Any

from pydantic import ValidationError
from rich.console import Console

from features.config import FeatureConfig
from lab.streams import Catalogue, StreamError
from lab.streams.choice import StreamChoice, open_recording
from lab.streams.logged.movielens_stream import MOVIELENS
from lab.streams.recording import Recording
from model.config import DomainConfig
from model.encoding.domain import FACETS, UNKNOWN, Domain
from streaming.config import Config

log = logging.getLogger(__name__)


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
    """`base` with the domains and fields of a stream.

    Raises StreamError if the result is no valid configuration, as where a kernel group is for a value that the stream
    does not have, or if no group takes a domain of the stream.
    """
    try:
        config = Config.model_validate({**dict(base), **sections_for(catalogue, base)})
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise StreamError(f"with the domains and fields of the stream the configuration is wrong: {problem}") from error
    _ensure_groups(config, catalogue)
    return config


def config_for(base: Config, choice: StreamChoice, console: Console) -> Config:
    """`base` made to fit the chosen stream; `base` itself if none was named. Raises StreamError."""
    return fitted(base, open_recording(base, choice, console).catalogue) if choice.named else base


def ensure_fits(config: Config, recording: Recording, choice: StreamChoice) -> None:
    """Checks that `config` declares every field and facet value of the stream. It may declare more.

    Raises StreamError if it does not, or if no kernel group takes a domain. Where no stream was named, the usual one is
    played under any configuration, and a warning names what it lacks: undeclared values count as unknown.
    """
    catalogue = recording.catalogue
    lacks = _lacks(config, catalogue)
    if lacks:
        cure = (
            f"make one that does by `driftline config {choice.arguments or f'--mapping {MOVIELENS}'}`, and give it to "
            f"every process with --config"
        )
        if choice.named:
            raise StreamError(f"the configuration does not declare what the stream holds ({'; '.join(lacks)}): {cure}")
        log.warning("the configuration does not declare all of MovieLens 100K (%s): %s", "; ".join(lacks), cure)
    _ensure_groups(config, catalogue)


def _lacks(config: Config, catalogue: Catalogue) -> list[str]:
    lacks = []
    declared = config.domain_space().values
    for facet in FACETS:
        missing = [value for value in catalogue.space.values[facet] if value not in declared[facet]]
        if missing:
            lacks.append(f"domains.{facet} lacks {', '.join(missing[:5])}{', ...' if len(missing) > 5 else ''}")
    for key in ("user_fields", "item_fields"):
        known = {spec.name: spec.kind for spec in getattr(config.features, key)}
        wrong = [spec.name for spec in getattr(catalogue, key) if known.get(spec.name) != spec.kind]
        if wrong:
            lacks.append(f"features.{key} lacks {', '.join(wrong)}, or calls it another kind")
    return lacks


def _ensure_groups(config: Config, catalogue: Catalogue) -> None:
    """Checks that groups cover the declared values; a log's `unknown` may have no group, as in other traffic."""
    for values in product(*(catalogue.space.values[facet][1:] or (UNKNOWN,) for facet in FACETS)):
        domain = config.domain_space().known(Domain(*values))
        if config.group_of(domain) is None:
            raise StreamError(
                f"no kernel group takes the stream's domain {domain.key}: add a [[groups]] without limits as the last"
            )
