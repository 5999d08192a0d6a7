"""Settings of the backbone: what it reads of users, items and queries, its network, and what it predicts."""

from __future__ import annotations

from typing import Literal, get_args

from pydantic import Field, ValidationError, field_validator, model_validator

from model.config.history import HistorySpec
from model.config.section import Section

ItemAspect = Literal["id", "text", "sparse"]
ITEM_ASPECTS: tuple[ItemAspect, ...] = get_args(ItemAspect)
NO_QUERY = -1
"""Marks a request without a query, which asks for a recommendation."""
MAX_QUERY = 512
"""Longest query in characters that any entry point accepts."""
MAX_WIDTH = 65_536
"""Largest width of any layer: a wider one is a typing error, and would first be noticed when memory ends."""
MAX_PARTS = 1_024
"""Largest number of layers, or of experts, for the same reason."""
QueryAspect = Literal["text", "words"]
QUERY_ASPECTS: tuple[QueryAspect, ...] = get_args(QueryAspect)


_LEAST_OF_TWO_TOWERS = 8


class BackboneConfig(Section):
    """The backbone that is trained once: the foundation model, or your own."""

    factory: str = Field(
        default="",
        description="What makes a backbone of your own: `package.module:function`, or `path/to/file.py:function` from "
        "the working directory; empty takes the foundation model. `text_width` and `content_width` "
        "apply to a custom backbone too, and it may read the other keys here.",
    )
    width: int = Field(default=64, ge=4, le=MAX_WIDTH, description="Width d of the fused representation.")
    target_statistics: bool = Field(
        default=True,
        description="Whether the log-odds of each user, item, field value and facet value, counted in the pretraining "
        "half, are inputs of the domain layer and added to the click logit.",
    )
    id_width: int = Field(default=8, ge=2, le=MAX_WIDTH, description="Width of an ID embedding.")
    sparse_width: int = Field(default=16, ge=2, le=MAX_WIDTH, description="Width of a sparse field's embedding.")
    text_width: int = Field(default=384, ge=1, le=MAX_WIDTH, description="Width of the text encoder's vectors.")
    content_width: int = Field(
        default=16, ge=2, le=MAX_WIDTH, description="Width c of the content vectors that the live features use."
    )
    domain_width: int = Field(
        default=16, ge=1, le=MAX_WIDTH, description="Width of the domain embedding that gates, maps and experts see."
    )
    item_aspects: tuple[ItemAspect, ...] = Field(
        default=ITEM_ASPECTS,
        description="Aspects by which the foundation model knows an item: its ID, its text, its sparse fields. Without "
        "`id` no single item has an embedding or a statistic, without `sparse` no item field has.",
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
        description="Network between representation and towers; `dssm` has none: the dot product of a user vector and "
        "an item vector takes its place, and scorers cache both vectors.",
    )
    experts: int = Field(
        default=4, ge=1, le=MAX_PARTS, description="Experts of an MMoE trunk; of a PLE trunk, per task and shared."
    )
    expert_hidden: int = Field(
        default=128,
        ge=1,
        le=MAX_WIDTH,
        description="Hidden width of an expert, of the MLP trunk, or of `dssm`'s two towers.",
    )
    expert_width: int = Field(default=64, ge=1, le=MAX_WIDTH, description="Width of the trunk's output.")
    tower_hidden: int = Field(default=32, ge=1, le=MAX_WIDTH, description="Hidden width of a tower.")
    tasks: Literal["ctr", "ctr_ctcvr"] = Field(
        default="ctr",
        description="What the backbone predicts: clicks alone, or clicks and conversions with "
        "CTCVR = CTR x CVR over all impressions, which takes a stream with conversions.",
    )
    query_aspects: tuple[QueryAspect, ...] = Field(
        default=(),
        description="Aspects by which the backbone knows a request's query: its text vector, its words, or both; empty "
        "for a backbone that reads no queries. It takes a stream with queries. A backbone of your own reads "
        "`batch.query` if any is named.",
    )
    relevance_weight: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="Weight in the loss of how relevant an item is to the query, which is then predicted beside "
        "clicks; 0 predicts none. It takes `query_aspects` and a stream in which somebody judged relevance.",
    )
    user_encoder: Literal["none", "pool", "gru4rec", "nextitnet", "sasrec", "bert4rec"] = Field(
        default="none",
        description="Network that reads a user's live history: none, a weighted mean, a recurrent network, dilated "
        "convolutions, causal or bidirectional attention. A backbone of your own reads `batch.history` with any value "
        "but `none`.",
    )
    user_objective: Literal["own", "clue"] = Field(
        default="own",
        description="What the user encoder is pretrained on before the clicks: `own`, hidden items for `bert4rec` and "
        "nothing for the others; `clue`, to tell two views of one user's history from other users' views.",
    )
    history_length: int = Field(
        default=50, ge=1, le=1_000, description="Number of newest events that a live history keeps."
    )
    history_skips: bool = Field(
        default=False, description="Whether a live history also holds items that were shown and not clicked."
    )
    history_items: Literal["id", "text", "both"] = Field(
        default="both", description="How the user encoder knows an item: by its id, its text, or both."
    )
    history_gaps: bool = Field(
        default=False,
        description="Whether the user encoder reads how long ago an event was; leave it off if traffic is replayed "
        "faster than it was recorded.",
    )
    history_width: int = Field(
        default=32, ge=4, le=MAX_WIDTH, multiple_of=2, description="Width of an event and of its encoder."
    )
    history_layers: int = Field(default=2, ge=1, le=MAX_PARTS, description="Layers of `sasrec` and `bert4rec`.")
    history_delay_s: float = Field(
        default=60.0,
        ge=0,
        description="Pretraining shows a request only events older than this. Set it to the time until a label is "
        "known in serving: `join.window_s` and a little more.",
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
            raise ValueError(f"item_aspects is empty, but an item needs one at least: {', '.join(ITEM_ASPECTS)}")
        if len(set(aspects)) != len(aspects):
            raise ValueError(f"{max(aspects, key=aspects.count)!r} is listed twice: drop one")
        return tuple(aspect for aspect in ITEM_ASPECTS if aspect in aspects)

    @field_validator("query_aspects")
    @classmethod
    def _once_in_order(cls, aspects: tuple[QueryAspect, ...]) -> tuple[QueryAspect, ...]:
        if len(set(aspects)) != len(aspects):
            raise ValueError(f"{max(aspects, key=aspects.count)!r} is listed twice: drop one")
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
    def _relevant_to_a_query(self) -> BackboneConfig:
        if self.relevance_weight and self.factory:
            raise ValueError(
                "relevance_weight is for the foundation model; a backbone of your own (factory) predicts clicks and "
                "conversions alone: leave one of the two out"
            )
        if self.relevance_weight and not self.query_aspects:
            raise ValueError(
                f"relevance_weight is {self.relevance_weight:g}, but query_aspects is empty: an item is relevant to a "
                "query, so name aspects by which the backbone reads it, or set relevance_weight to 0"
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
        """A copy with other values, validated as a whole. Raises ValueError that names the keys that do not fit."""
        try:
            return BackboneConfig.model_validate(self.model_dump() | values)
        except ValidationError as error:
            raise ValueError("backbone: " + error.errors()[0]["msg"].removeprefix("Value error, ")) from None

    @property
    def identity(self) -> str:
        """The settings as JSON for a fingerprint.

        Left out are the factory, whose path differs between machines, and relevance where it is not predicted, so that
        a backbone from before that setting keeps its fingerprint.
        """
        return self.model_dump_json(exclude={"factory"} if self.relevance_weight else {"factory", "relevance_weight"})

    @property
    def history(self) -> HistorySpec:
        """The events of a user that the backbone reads."""
        length = 0 if self.user_encoder == "none" else self.history_length
        return HistorySpec(length, self.history_skips, self.history_delay_s)
