"""Files that appear at their places all together, once all of them are there."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

from services.aggregator.offline.inputs import FileRefused


def deliver(made: Mapping[Path, Path]) -> None:
    """Move each file to its place, given as `{place: file}`; other disks are no obstacle.

    If one of them cannot be written, all places are as they were.
    """
    missing = [folder for place in made if not (folder := place.parent).exists()]
    staged: dict[Path, Path] = {}
    try:
        for place, file in made.items():
            staged[place] = _staged(place, file)
        for place, file in staged.items():
            os.replace(file, place)
    except BaseException:  # a Ctrl-C too
        for file in staged.values():
            file.unlink(missing_ok=True)
        for folder in missing:
            _forget(folder)
        raise


def _staged(place: Path, file: Path) -> Path:
    """Beside its place."""
    beside = place.with_name(f".{uuid4().hex}")
    try:
        if place.is_dir():
            raise FileRefused(place, "there is a folder")
        place.parent.mkdir(exist_ok=True)
        shutil.move(file, beside)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise FileRefused(place, error.strerror or error) from error
    return beside


def _forget(folder: Path) -> None:
    """A folder that we have made, unless somebody has put something there."""
    try:
        folder.rmdir()
    except OSError:
        return
