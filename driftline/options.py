"""Options that several commands share: which stream is played, and how."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local.options import name_or_path_option, path_option

Archive = Annotated[
    Path | None,
    typer.Option(help="The official ml-100k.zip, instead of the package index.", parser=path_option, metavar="ZIP"),
]
BackboneFolder = Annotated[
    Path,
    typer.Option("--from", help="Folder of the old backbone.", parser=path_option, metavar="FOLDER"),
]
Limit = Annotated[int | None, typer.Option(help="Play at most so many requests.", min=1)]
Rate = Annotated[float, typer.Option(help="Requests per second.", min=0.1)]
ScriptName = Annotated[
    str | None,
    typer.Option(
        "--script",
        help="A drift script: a file (YAML), or one that comes along, such as abrupt.",
        parser=name_or_path_option,
        metavar="NAME|FILE",
    ),
]
LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log",
        help="A log: Parquet, CSV or JSONL; or the folder of a public data set.",
        parser=path_option,
        metavar="PATH",
    ),
]
MappingName = Annotated[
    str | None,
    typer.Option(
        "--mapping",
        help="What the log's columns mean (YAML), or the name of a public data set.",
        parser=name_or_path_option,
        metavar="NAME|FILE",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(help="A Dask scheduler whose workers do the work, instead of this machine.", metavar="ADDRESS"),
]
ReportFolder = Annotated[
    Path,
    typer.Option(
        help="Folder of the report; finished runs in it are not repeated.", parser=path_option, metavar="FOLDER"
    ),
]
BaseName = Annotated[
    str | None, typer.Option(help="shipped or plain: a base that the lab knows, in place of the configured one.")
]
SuiteName = Annotated[
    str | None,
    typer.Option(
        help="standard, scripted, unmatched, movielens-100k, movielens-sessions, movielens-favourites or "
        "movielens-search."
    ),
]
TextModels = Annotated[
    bool, typer.Option("--text-models", help="Compare text encoders: items known by id, by text or by both.")
]
Models = Annotated[
    str | None,
    typer.Option(
        help="With --text-models: hashed-words, minilm-1, -2, -3 or -6, or folders of models, with commas. With "
        "--user-encoders: sasrec, sasrec-clue and the others.",
        metavar="NAME|FOLDER",
    ),
]
Detectors = Annotated[
    bool, typer.Option("--detectors", help="Try drift verdicts and detectors on streams whose truth is known.")
]
NewScene = Annotated[
    bool,
    typer.Option("--new-scene", help="Compare ways to take up a scene that pretraining never saw."),
]
Conversions = Annotated[
    bool, typer.Option("--conversions", help="Try what an adapted conversion probability gains above the frozen one.")
]
Queries = Annotated[
    bool, typer.Option("--queries", help="Compare what queries are known by, on search and on recommendation requests.")
]
UserEncoders = Annotated[
    bool, typer.Option("--user-encoders", help="Compare user encoders, with and without a live history and a kernel.")
]
