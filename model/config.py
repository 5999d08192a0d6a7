"""Sizes and rates of backbone, kernel and learner: validated once, a sentence per key."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

MAX_SEED = 2**32 - 1
"""The largest seed that every generator of random numbers takes."""


class Section(BaseModel):
    """A frozen group of keys; an unknown key is refused by its name, and so is a number that is not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _no_boolean_as_number(cls, values: Any) -> Any:
        # Python's True is a 1, so `window_s = true` would be one second in silence.
        for key, value in values.items() if isinstance(values, dict) else ():
            if _has_boolean(value) and _holds_numbers(cls.model_fields.get(key)):
                raise ValueError(f"{key}: a number is wanted, not true or false")
        return values


def _has_boolean(value: Any) -> bool:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, bool) or any(_has_boolean(part) for part in parts)


def _holds_numbers(field: Any) -> bool:
    """Whether a key is a number or a list of numbers, and no boolean."""
    types = _leaves(field.annotation) if field is not None else set()
    return bool(types & {int, float}) and bool not in types


def _leaves(annotation: Any) -> set[Any]:
    parts = get_args(annotation)
    return set().union(*(_leaves(part) for part in parts)) if parts else {annotation}


class FieldSpec(Section):
    """One sparse field of a user or an item."""

    name: str = Field(description="Name of the field in events and in the feature store.")
    kind: Literal["single", "multi", "number"] = Field(
        default="single", description="One value, a list of values, or a number that is cut into buckets."
    )
    buckets: int = Field(default=8, ge=2, description="Number of quantile buckets of a number.")
    max_values: int = Field(
        default=16, ge=1, description="Values of a multi-valued field beyond this are left out and counted."
    )


@dataclass(frozen=True)
class HistorySpec:
    """What of a user's events is kept as a live history."""

    length: int
    """The newest so many; 0 keeps none."""
    skips: bool = False
    """Whether what was shown and passed over is kept beside what was clicked."""
    delay_s: float = 0.0
    """Age from which pretraining shows an event."""


NO_HISTORY = HistorySpec(0)


ItemAspect = Literal["id", "text", "sparse"]
ITEM_ASPECTS: tuple[ItemAspect, ...] = get_args(ItemAspect)
NO_QUERY = -1
"""Stands for the query of a request that has none: it wants a recommendation."""
MAX_QUERY = 512
"""Characters of a query that are taken at any entry point."""
QueryAspect = Literal["text", "words"]
QUERY_ASPECTS: tuple[QueryAspect, ...] = get_args(QueryAspect)


_LEAST_OF_TWO_TOWERS = 8


class BackboneConfig(Section):
    """The backbone that is trained once: the foundation model, or your own."""

    factory: str = Field(
        default="",
        description="What makes a backbone of your own: `package.module:function`, or `path/to/file.py:function` from "
        "the working directory; empty takes the foundation model. Of the other keys here, an own backbone has "
        "`text_width` and `content_width`, and reads what it likes of the rest.",
    )
    width: int = Field(default=64, ge=4, description="Width d of the fused representation.")
    target_statistics: bool = Field(
        default=True,
        description="Whether the log-odds of each user, item, field value and facet value, counted in the pretraining "
        "half, go into the domain layer and straight to the click logit.",
    )
    id_width: int = Field(default=8, ge=2, description="Width of an ID embedding.")
    sparse_width: int = Field(default=16, ge=2, description="Width of a sparse field's embedding.")
    text_width: int = Field(default=384, ge=1, description="Width of the text encoder's vectors.")
    content_width: int = Field(
        default=16, ge=2, description="Width c of the content vectors that the live features use."
    )
    domain_width: int = Field(
        default=16, ge=1, description="Width of the domain embedding that gates, maps and experts see."
    )
    item_aspects: tuple[ItemAspect, ...] = Field(
        default=ITEM_ASPECTS,
        description="What the foundation model knows an item by: its ID, its text, its sparse fields. Without `id` "
        "there is no embedding and no statistic of a single item, without `sparse` none of an item's fields.",
    )
    gating: Literal["plain", "mean", "cls", "domain"] = Field(
        default="domain", description="How the aspects are fused."
    )
    domain_map: Literal["none", "scale", "full"] = Field(
        default="scale",
        description="Domain-specific linear map into the common space: none, a scale and shift, or a matrix per value.",
    )
    alignment: Literal["none", "js", "mmd"] = Field(
        default="none", description="Divergence between the domains' representations that pretraining adds to the loss."
    )
    alignment_weight: float = Field(default=1e-2, ge=0, description="Weight of the alignment term.")
    trunk: Literal["mlp", "mmoe", "ple", "dssm"] = Field(
        default="mmoe",
        description="Network between representation and towers; `dssm` has none: a user's and an item's vector meet in "
        "a dot product, and scorers keep both.",
    )
    experts: int = Field(default=4, ge=1, description="Experts of an MMoE trunk; of a PLE trunk, per task and shared.")
    expert_hidden: int = Field(
        default=128, ge=1, description="Hidden width of an expert, of the MLP trunk, or of `dssm`'s two towers."
    )
    expert_width: int = Field(default=64, ge=1, description="Width of the trunk's output.")
    tower_hidden: int = Field(default=32, ge=1, description="Hidden width of a tower.")
    tasks: Literal["ctr", "ctr_ctcvr"] = Field(
        default="ctr",
        description="What the backbone is trained to tell: clicks alone, or clicks and conversions with "
        "CTCVR = CTR x CVR over all impressions, from a stream that knows of conversions.",
    )
    query_aspects: tuple[QueryAspect, ...] = Field(
        default=(),
        description="What the backbone knows a request's query by: its text vector, its words, or both; empty where "
        "requests carry none. It needs a stream that has queries. A backbone of your own reads `batch.query` with any.",
    )
    user_encoder: Literal["none", "pool", "gru4rec", "nextitnet", "sasrec", "bert4rec"] = Field(
        default="none",
        description="What reads a user's live history: nothing, a weighted mean, a recurrent network, dilated "
        "convolutions, causal or bidirectional attention. A backbone of your own reads `batch.history` with any but "
        "`none`.",
    )
    user_objective: Literal["own", "clue"] = Field(
        default="own",
        description="What the user encoder learns before the clicks: `own`, hidden items for `bert4rec` and nothing "
        "for the others; `clue`, to tell two views of one user's history from other users'.",
    )
    history_length: int = Field(
        default=50, ge=1, le=1_000, description="Events of a live history that are kept, the newest."
    )
    history_skips: bool = Field(
        default=False, description="Whether a live history also holds what was shown and passed over."
    )
    history_items: Literal["id", "text", "both"] = Field(
        default="both", description="What the user encoder knows of an item: its id, its text, or both."
    )
    history_gaps: bool = Field(
        default=False,
        description="Whether the user encoder knows how long ago an event was; leave it off where traffic is played "
        "faster than it was recorded.",
    )
    history_width: int = Field(default=32, ge=4, multiple_of=2, description="Width of an event and of its encoder.")
    history_layers: int = Field(default=2, ge=1, description="Layers of `sasrec` and `bert4rec`.")
    history_delay_s: float = Field(
        default=60.0,
        ge=0,
        description="Pretraining shows a request the events that are older than this: what serving waits for a label, "
        "`join.window_s` and a little.",
    )
    id_dropout: float = Field(
        default=0.1, ge=0, lt=1, description="Share of IDs replaced by the out-of-vocabulary row in pretraining."
    )
    dropout: float = Field(default=0.1, ge=0, lt=1, description="Dropout in the trunk during pretraining.")

    @field_validator("factory")
    @classmethod
    def _names_a_function(cls, factory: str) -> str:
        source, colon, function = factory.rpartition(":")
        if factory and not (source and colon and function.isidentifier()):
            raise ValueError(
                f"{factory!r} names no function: write package.module:function or path/to/file.py:function"
            )
        return factory

    @field_validator("item_aspects")
    @classmethod
    def _some_in_order(cls, aspects: tuple[ItemAspect, ...]) -> tuple[ItemAspect, ...]:
        if not aspects:
            raise ValueError(f"an item must be known by something: name some of {', '.join(ITEM_ASPECTS)}")
        if len(set(aspects)) != len(aspects):
            raise ValueError(f"{max(aspects, key=aspects.count)!r} stands there twice: drop one")
        return tuple(aspect for aspect in ITEM_ASPECTS if aspect in aspects)

    @field_validator("query_aspects")
    @classmethod
    def _once_in_order(cls, aspects: tuple[QueryAspect, ...]) -> tuple[QueryAspect, ...]:
        if len(set(aspects)) != len(aspects):
            raise ValueError(f"{max(aspects, key=aspects.count)!r} stands there twice: drop one")
        return tuple(aspect for aspect in QUERY_ASPECTS if aspect in aspects)

    @model_validator(mode="after")
    def _items_known_alike(self) -> BackboneConfig:
        if self.factory and self.item_aspects != ITEM_ASPECTS:
            raise ValueError(
                "item_aspects is for the foundation model; a backbone of your own (factory) decides itself what it "
                "reads of an item: leave one of the two out"
            )
        if self.user_objective == "clue" and (self.user_encoder == "none" or self.factory):
            raise ValueError(
                "user_objective is clue, but there is no user encoder to learn by it: name one by user_encoder (and "
                "leave factory empty), or set user_objective to own"
            )
        by = ("id", "text") if self.history_items == "both" else (self.history_items,)
        missing = [aspect for aspect in by if aspect not in self.item_aspects]
        if self.user_encoder != "none" and missing:
            raise ValueError(
                f"history_items is {self.history_items}, but item_aspects has no {' and no '.join(missing)}: the user "
                "encoder must know items by what the rest of the backbone knows them by; change one of the two"
            )
        return self

    @model_validator(mode="after")
    def _towers_share_the_width(self) -> BackboneConfig:
        if self.trunk != "dssm" or self.factory:
            return self
        if self.width % 2 or self.width < _LEAST_OF_TWO_TOWERS:
            raise ValueError(
                f"width is {self.width}, but trunk is dssm, whose user and item get half of it each: give an even "
                f"number, at least {_LEAST_OF_TWO_TOWERS}"
            )
        if self.query_aspects:
            raise ValueError(
                "query_aspects go with any trunk but dssm: a query would be read by one of two vectors that are kept; "
                "take another trunk, or leave query_aspects empty"
            )
        return self

    def changed(self, **values: object) -> BackboneConfig:
        """The same with other values, checked as a whole. Raises ValueError, which names the keys that do not fit."""
        try:
            return BackboneConfig.model_validate(self.model_dump() | values)
        except ValidationError as error:
            raise ValueError("backbone: " + error.errors()[0]["msg"].removeprefix("Value error, ")) from None

    @property
    def history(self) -> HistorySpec:
        """The live history that the backbone reads."""
        length = 0 if self.user_encoder == "none" else self.history_length
        return HistorySpec(length, self.history_skips, self.history_delay_s)


class PretrainConfig(Section):
    """How the backbone is trained."""

    epochs: int = Field(default=20, ge=1, description="Upper bound on passes over the training half.")
    batch_size: int = Field(default=512, ge=1, description="Examples per step.")
    learning_rate: float = Field(default=2e-3, gt=0, description="Peak learning rate of AdamW.")
    weight_decay: float = Field(default=1e-4, ge=0, description="Weight decay of AdamW.")
    patience: int = Field(default=4, ge=1, description="Passes without a better validation log loss before it stops.")
    validation_share: float = Field(
        default=0.1, gt=0, lt=0.5, description="Last share of the training half, by time, that validates."
    )
    refit: bool = Field(
        default=True,
        description="Whether it is trained anew on the whole half, for the best number of passes, once the last share "
        "has validated.",
    )
    content_steps: int = Field(
        default=400,
        ge=0,
        description="Most steps that fit the content vectors to users' residuals; 0 takes components.",
    )
    cloze_passes: int = Field(
        default=10, ge=0, description="Passes over the users' histories in which `bert4rec` guesses hidden items first."
    )
    clue_steps: int = Field(
        default=200, ge=0, description='Steps in which `user_objective = "clue"` teaches the user encoder first.'
    )
    seed: int = Field(default=7, ge=0, le=MAX_SEED, description="Seed of initialisation, shuffling and dropout.")


class KernelConfig(Section):
    """The compression of the information-aware adaptive kernel, which is fixed with the backbone at pretraining."""

    rank: int = Field(default=8, ge=1, le=64, description="Most directions of the representation that are kept.")
    beta: float = Field(
        default=2.0,
        gt=1,
        description="What a nat about who asks, where and when is worth against a nat of the representation; a "
        "direction is kept if more than 1 / beta of its variance lies between users and domains.",
    )


class LearnerConfig(Section):
    """How the kernel learns from the stream."""

    batch_examples: int = Field(default=128, ge=1, description="A micro-batch is cut when it holds this many examples.")
    batch_seconds: float = Field(default=0.25, gt=0, description="... or when its event time spans this many seconds.")
    half_lives: tuple[float, float] = Field(
        default=(2_000.0, 20_000.0),
        description="Half-lives of the posteriors' memory, in examples: the short and the long one.",
    )
    trust_half_life: float = Field(
        default=80.0, gt=0, description="Examples after which half of what told the arms apart is forgotten."
    )
    trust_rate: float = Field(
        default=0.3, gt=0, description="How strongly a difference in log loss moves the trust in an arm."
    )
    frozen_share: float = Field(
        default=0.1, gt=0, lt=1, description="Share of the frozen model in what is served, where nothing speaks for it."
    )
    evidence_half_life: float = Field(
        default=20_000.0, gt=0, description="Examples after which half of the evidence for the matching is forgotten."
    )
    evidence_rate: float = Field(
        default=0.3, gt=0, description="How strongly a nat of evidence moves the resting share of the matching."
    )
    publish_seconds: float = Field(
        default=0.5, gt=0, description="A kernel is published at most once per so much event time."
    )

    @field_validator("half_lives")
    @classmethod
    def _short_before_long(cls, values: tuple[float, float]) -> tuple[float, float]:
        if not 0 < values[0] <= values[1]:
            raise ValueError("half-lives must be above zero, the short one first")
        return values


class DomainConfig(Section):
    """The declared values of each domain facet; any other value is treated as `unknown`."""

    scene: tuple[str, ...] = Field(default=("home",), description="Scenes of the app.")
    region: tuple[str, ...] = Field(default=(), description="Regions of the users.")
    period: tuple[str, ...] = Field(
        default=("night", "morning", "afternoon", "evening"), description="Periods of the day."
    )

    @field_validator("scene", "region", "period")
    @classmethod
    def _no_blank(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if any(not value.strip() for value in values):
            raise ValueError("a facet value is empty")
        if len(set(values)) != len(values):
            raise ValueError(f"{max(values, key=values.count)!r} stands there twice: drop one")
        return values
