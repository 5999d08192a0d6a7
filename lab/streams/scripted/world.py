"""The users and items of a scripted stream: real items and user fields, simulated tastes (all of this is ours)."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from features.config import FeatureConfig
from features.profiles import ItemProfile, UserProfile
from lab.streams.logged.movielens import MovieLens
from lab.streams.scripted.drift_events import NewDomain
from lab.streams.scripted.script import PERIODS, Script
from lab.streams.stream import Catalogue
from model.config import FieldSpec
from model.encoding.domain import FACETS, DomainSpace
from model.encoding.spelling import FieldValue, read_number, spell_list

Matrix = NDArray[np.float32]
PERSONAL_WIDTH = 8
EPOCH = 1_767_571_200.0  # 5 January 2026, a Monday, 00:00 UTC


@dataclass(frozen=True)
class RealItems:
    """The real items that a scripted stream uses."""

    items: tuple[ItemProfile, ...]
    popularity: NDArray[np.float64]
    """How often each item was really rated or seen, `(items,)`."""
    users: tuple[UserProfile, ...]
    item_fields: tuple[FieldSpec, ...]
    user_fields: tuple[FieldSpec, ...]

    @staticmethod
    def of(data: MovieLens, config: FeatureConfig) -> RealItems:
        """The films and users of MovieLens 100K with the fields that the configuration names."""
        counts = Counter(rating.item_id for rating in data.ratings)
        return RealItems(
            items=tuple(data.items),
            popularity=np.array([counts[item.item_id] for item in data.items], dtype=np.float64),
            users=tuple(data.users),
            item_fields=config.item_fields,
            user_fields=config.user_fields,
        )


def stream_rng(script: Script, *names: str | int) -> np.random.Generator:
    """A generator of its own for each purpose, so that one choice never moves another."""
    tags = [name if isinstance(name, int) else zlib.crc32(name.encode()) for name in names]
    return np.random.default_rng(np.random.SeedSequence([script.seed, *tags]))


def standardise(values: NDArray[np.float64]) -> Matrix:
    """Mean 0 and deviation 1 along the last axis (a constant row becomes 0)."""
    centred = values - values.mean(axis=-1, keepdims=True)
    deviation = centred.std(axis=-1, keepdims=True)
    return np.asarray(centred / np.where(deviation > 0, deviation, 1.0), dtype=np.float32)


def one_hot(profiles: Sequence[Mapping[str, FieldValue]], specs: Sequence[FieldSpec]) -> NDArray[np.float64]:
    """Sparse fields as columns, `(profiles, values)`; numbers in five quantile buckets; each column centred, scaled."""
    columns: list[NDArray[np.float64]] = []
    for spec in specs:
        raw = [profile.get(spec.name) for profile in profiles]
        if spec.kind == "number":
            numbers = np.array([np.nan if (n := read_number(v)) is None else n for v in raw])
            known = numbers[~np.isnan(numbers)]
            edges = np.unique(np.quantile(known, [0.2, 0.4, 0.6, 0.8])) if known.size else np.zeros(0)
            sets = [set() if np.isnan(n) else {str(int(np.searchsorted(edges, n)))} for n in numbers]
        else:
            sets = [set(spell_list(v)) for v in raw]
        values = sorted(set().union(*sets)) if sets else []
        columns.extend(np.array([value in s for s in sets], dtype=np.float64) for value in values)
    if not columns:
        return np.zeros((len(profiles), 0))
    return np.asarray(standardise(np.stack(columns)).T, dtype=np.float64)


class World:
    """Tastes, popularity and communities of one script; equal for equal scripts and items."""

    def __init__(self, script: Script, real: RealItems) -> None:
        if len(real.items) < 4 * script.shown:
            raise ValueError(
                f"{len(real.items)} items are too few to show {script.shown} at a time (4 x as many are needed)"
            )
        self.script = script
        self.space = _space(script)
        rng = stream_rng(script, "users")
        drawn = rng.integers(len(real.users), size=script.users)
        profiles = tuple(UserProfile(f"u{n}", EPOCH, real.users[source].fields) for n, source in enumerate(drawn))
        self.catalogue = Catalogue(profiles, real.items, self.space, real.user_fields, real.item_fields)
        self._content = self._make_content(real)
        self.community = self._communities(real)
        self.activity = rng.lognormal(0.0, 0.8, script.users)
        self.region = self._regions()
        self.base_taste = self.taste("base")
        self.exposure = (np.asarray(real.popularity, dtype=np.float64) + 1.0) ** 0.75
        self.static = self._static(real)
        self.personal_user = (
            stream_rng(script, "personal").normal(size=(script.users, PERSONAL_WIDTH)).astype(np.float32)
        )
        axes = stream_rng(script, "axes").normal(size=(PERSONAL_WIDTH, self._content.shape[1]))
        scale = script.strengths.personal / np.sqrt(PERSONAL_WIDTH)
        self.personal_item = np.ascontiguousarray(standardise(axes @ self._content.T).T * np.float32(scale))
        self.domain_taste = [self._domain_taste(facet) for facet in FACETS]

    def taste(self, name: str) -> Matrix:
        """A taste of every community for every item, `(communities, items)`, of deviation 1 over the items."""
        rng = stream_rng(self.script, "taste", name)
        weights = rng.normal(size=(self.script.communities, self._content.shape[1]))
        return standardise(weights @ self._content.T)

    def _make_content(self, real: RealItems) -> NDArray[np.float64]:
        """Fields as columns, with additional columns that no feature reveals, `(items, width)`."""
        seen = one_hot([item.fields for item in real.items], real.item_fields)
        seen = seen / np.sqrt(max(seen.shape[1], 1))
        share = self.script.strengths.hidden if seen.shape[1] else 1.0
        hidden = stream_rng(self.script, "hidden").normal(size=(len(real.items), 8)) / np.sqrt(8)
        return np.concatenate([np.sqrt(1 - share) * seen, np.sqrt(share) * hidden], axis=1)

    def _communities(self, real: RealItems) -> NDArray[np.int64]:
        """Community of each user: a noisy function of the user's fields, so that fields reveal it partly."""
        rng = stream_rng(self.script, "communities")
        fields = one_hot([user.fields for user in self.catalogue.users], real.user_fields)
        explained = (
            fields @ rng.normal(size=(fields.shape[1], self.script.communities)) / np.sqrt(max(fields.shape[1], 1))
        )
        return np.asarray(np.argmax(1.5 * explained + rng.gumbel(size=explained.shape), axis=1), dtype=np.int64)

    def _regions(self) -> NDArray[np.int64]:
        """Home region of each user, an index of the domain space; regions that events add come later."""
        shares = self.script.domains.get("region", {})
        if not shares:
            return np.zeros(self.script.users, dtype=np.int64)
        weights = np.array(list(shares.values()))
        rng = stream_rng(self.script, "regions")
        return 1 + rng.choice(len(shares), size=self.script.users, p=weights / weights.sum())

    def _static(self, real: RealItems) -> Matrix:
        """Popularity and quality parts of the click logit, `(items,)`."""
        strengths = self.script.strengths
        popular = standardise(np.log1p(np.asarray(real.popularity, dtype=np.float64)))
        quality = stream_rng(self.script, "quality").normal(size=len(real.items)).astype(np.float32)
        return np.asarray(strengths.popularity * popular + strengths.quality * quality, dtype=np.float32)

    def _domain_taste(self, facet: str) -> Matrix:
        """Part of the click logit per value of a facet, `(values, items)`; 0 for `unknown`."""
        values = self.space.values[facet]
        out = np.zeros((len(values), len(self.catalogue.items)), dtype=np.float32)
        for index, value in enumerate(values[1:], start=1):
            weights = stream_rng(self.script, "domain", facet, value).normal(size=self._content.shape[1])
            out[index] = self.script.strengths.domain * standardise(self._content @ weights)
        return out


def _space(script: Script) -> DomainSpace:
    """Declared values: those of the script, then those that events add."""
    values = {facet: list(script.domains.get(facet, {})) for facet in ("scene", "region")}
    for event in script.events:
        if isinstance(event, NewDomain) and event.value not in values[event.facet]:
            values[event.facet].append(event.value)
    return DomainSpace({**values, "period": list(PERIODS)})
