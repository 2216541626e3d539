"""Sample logs: four small applications as Spark 4.3 wrote them. One went well, three did not."""

from __future__ import annotations

import os
import shutil
from importlib.resources import as_file, files
from pathlib import Path


def ensure_sample(folder: Path) -> bool:
    """Fill a folder with the sample logs where there is none yet; True where that was done.

    It appears whole or not at all: it is filled beside its place and then moved there.
    """
    if folder.exists():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    building = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(building, ignore_errors=True)
    try:
        with as_file(files("servers.spark").joinpath("sample")) as source:
            shutil.copytree(source, building)
        building.rename(folder)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return True
