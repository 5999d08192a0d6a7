"""The folder of a run: created anew each time, without ever deleting anybody else's files."""

from __future__ import annotations

import shutil
from pathlib import Path

from local.demo.settings import CONFIG_FILE


class FolderInUseError(Exception):
    """The folder holds something that no demo made; the message names it and the cure."""


def make_anew(folder: Path) -> None:
    """Makes `folder`, empty. Raises FolderInUseError if it holds files and is not the folder of an earlier demo."""
    if folder.exists():
        if any(folder.iterdir()) and not (folder / CONFIG_FILE).is_file():
            raise FolderInUseError(
                f"{folder} holds files and no {CONFIG_FILE}, so no demo made it, and it will not be deleted: "
                "choose another folder with --run-dir"
            )
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    (folder / CONFIG_FILE).touch()
