"""The mapping file (YAML) that names the columns of any log. Documented with a complete example in docs/streams.md."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, field_validator, model_validator

from lab.streams.files import read_text
from lab.streams.sections import Category, parse_section
from model.config import FieldSpec, Section, field_name

Format = Literal["csv", "tsv", "jsonl", "parquet"]


class TableSource(Section):
    """A file and how it is written."""

    path: str = Field(default="", description="File or glob, relative to the mapping file; for the log, `--log` wins.")
    format: Format | None = Field(default=None, description="Left out: by the file's ending (.gz may follow).")
    delimiter: str | None = Field(default=None, description="Column separator of a text file, if not comma or tab.")
    columns: tuple[str, ...] = Field(default=(), description="Column names of a text file without a header line.")
    encoding: str = Field(default="utf-8", description="Encoding of a text file.")

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        try:
            "".encode(value)
        except LookupError:
            raise ValueError(f"no encoding {value!r}; usual ones are utf-8, latin-1, cp1252 and utf-16") from None
        return value

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, value: str | None) -> str | None:
        if value is not None and (not value or set(value) & set('"\r\n\0')):
            raise ValueError(f"{value!r} cannot separate columns: give another character, or several")
        return value

    @field_validator("columns")
    @classmethod
    def _once(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(values)) != len(values):
            raise ValueError(f"two columns are called {max(values, key=values.count)!r}: rename one")
        return values


class TimeRule(Section):
    """Format of an interaction's time."""

    column: str = Field(description="Column of the time.")
    unit: Literal["s", "ms", "us", "ns", "iso"] = Field(
        default="s",
        description="Seconds, milli-, micro- or nanoseconds since the epoch, or ISO 8601 text (UTC if unsaid). Unused "
        "for a column that holds dates or datetimes by its type (Parquet).",
    )
    format: str | None = Field(
        default=None, min_length=1, description="A strptime format, for any other text; wins over `unit`."
    )


class LabelRule(Section):
    """Which rows count as clicks: exactly one of the conditions, or none if the column holds 0/1 or true/false."""

    column: str | None = Field(default=None, description="Column of the label; left out, every row is a click.")
    at_least: float | None = Field(default=None, description="A number of at least this much is a click.")
    among: tuple[Category, ...] | None = Field(default=None, description="One of these values is a click.")

    @model_validator(mode="after")
    def _one(self) -> LabelRule:
        if self.at_least is not None and self.among is not None:
            raise ValueError("a label has either at_least or among, not both")
        if self.column is None and (self.at_least is not None or self.among is not None):
            raise ValueError("at_least and among need a column")
        return self


class ConversionRule(LabelRule):
    """Which clicks converted: by a column as for `label`, or by the time of the conversion alone."""

    column: str | None = Field(
        default=None, description="Column of the conversion; left out, a row with a time is one. Only clicks convert."
    )
    at_least: float | None = Field(default=None, description="A number of at least this much is a conversion.")
    among: tuple[Category, ...] | None = Field(default=None, description="One of these values is a conversion.")
    time: TimeRule | None = Field(
        default=None,
        description="When it happened, a bare name means seconds; left out, at the click. Other rows may be empty.",
    )

    @field_validator("time", mode="before")
    @classmethod
    def _bare_time(cls, value: object) -> object:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _says_which(self) -> ConversionRule:
        if self.column is None and self.time is None:
            raise ValueError("a conversion needs the column that says so, or a time")
        return self


class RelevanceRule(LabelRule):
    """How relevant an item is to the query: the column's numbers from 0 to 1, or 0 and 1 by one of the conditions."""

    column: str = Field(description="Column of the judgement; nobody judged a row where it is empty.")
    at_least: float | None = Field(default=None, description="A number of at least this much is relevant.")
    among: tuple[Category, ...] | None = Field(default=None, description="One of these values is relevant.")


class FacetRule(Section):
    """Source of a domain facet."""

    column: str | None = Field(default=None, description="Column of the log that holds it.")
    user_column: str | None = Field(default=None, description="Column of the user table that holds it.")
    value: Category | None = Field(default=None, min_length=1, description="One value for all.")
    first: int | None = Field(default=None, ge=1, description="Only so many first characters of the value.")

    @model_validator(mode="after")
    def _one(self) -> FacetRule:
        if sum(part is not None for part in (self.column, self.user_column, self.value)) != 1:
            raise ValueError("a facet has exactly one of column, user_column and value")
        return self


class FieldRule(Section):
    """A sparse field of a side table."""

    column: str | None = Field(default=None, description="Its column; left out, the field's own name.")
    kind: Literal["single", "multi", "number"] = Field(default="single", description="As in `features.user_fields`.")
    separator: str = Field(default="|", min_length=1, description="Between the values of a multi-valued field.")


class SideTable(TableSource):
    """Users or items."""

    path: str = Field(description="File or glob, relative to the mapping file.")
    key: str = Field(description="Column of the identifier.")
    text: tuple[str, ...] = Field(default=(), description="Columns that make the item's text, joined by a full stop.")
    fields: dict[Annotated[str, AfterValidator(field_name)], FieldRule] = Field(
        default={}, description="Sparse fields by name; `column` reads one from a column of another name."
    )

    def specs(self) -> tuple[FieldSpec, ...]:
        """The fields as the feature encoder takes them."""
        return tuple(FieldSpec(name=name, kind=rule.kind) for name, rule in self.fields.items())


class Interactions(TableSource):
    """The log itself: one row per user, item and time."""

    user: str = Field(description="Column of the user.")
    item: str = Field(description="Column of the item.")
    time: TimeRule = Field(description="Column and unit of the time; a bare name means seconds.")
    label: LabelRule = Field(default=LabelRule(), description="What counts as a click.")
    conversion: ConversionRule | None = Field(default=None, description="Which clicks converted, if the log says so.")
    query: str | None = Field(
        default=None, description="Column of what the user asked for; an empty cell is a recommendation."
    )
    relevance: RelevanceRule | None = Field(
        default=None, description="How relevant items are to the query, where somebody judged them; it takes `query`."
    )
    request: str | None = Field(
        default=None, description="Column whose equal values make one request; left out, a user's rows in a row do."
    )
    scene: FacetRule = Field(default=FacetRule(value="home"), description="Scene of a row.")
    region: FacetRule = Field(default=FacetRule(value="all"), description="Region of a row.")
    period: FacetRule | None = Field(default=None, description="Period of a row; left out, by the hour of the day.")

    @field_validator("time", mode="before")
    @classmethod
    def _bare_time(cls, value: object) -> object:
        return {"column": value} if isinstance(value, str) else value

    @field_validator("label", "conversion", "relevance", "scene", "region", "period", mode="before")
    @classmethod
    def _bare_column(cls, value: object) -> object:
        return {"column": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _relevant_to_a_query(self) -> Interactions:
        if self.relevance is not None and self.query is None:
            raise ValueError("relevance is that of an item to a query: name the column of `query` too")
        return self


class Negatives(Section):
    """For logs that hold only clicks: items that were not clicked are sampled and count as shown."""

    per_click: int = Field(default=9, ge=1, le=99, description="Drawn items per click.")
    by: Literal["popularity", "uniform"] = Field(default="popularity", description="How they are drawn.")
    seed: int = Field(default=0, ge=0, description="Seed of the draw.")


class LogMapping(Section):
    """Everything about a log."""

    name: str = Field(default="log", description="Short name for tables and files.")
    interactions: Interactions = Field(description="The log.")
    users: SideTable | None = Field(default=None, description="User table.")
    items: SideTable | None = Field(default=None, description="Item table.")
    negatives: Negatives | None = Field(default=None, description="Needed if the log holds clicks alone.")
    pretrain_share: float = Field(default=0.5, gt=0, lt=1, description="First share of the requests: for pretraining.")
    shown: int = Field(default=10, ge=1, le=100, description="Most items per request; a longer one is cut in pieces.")
    gap_s: float = Field(default=3600.0, gt=0, description="A longer pause of a user begins a new request.")
    facet_values: int = Field(default=50, ge=1, description="Values kept per facet; rarer ones become `unknown`.")


def load_mapping(path: Path) -> LogMapping:
    """The mapping of a YAML file. Raises StreamError, which names the file, the key and the cure."""
    return parse_section(LogMapping, read_text(path, "mapping"), f"mapping {path}")
