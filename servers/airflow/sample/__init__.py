"""Sample DAGs: one works, one fails after a retry, one can't be read. And the steps that they run."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

FILES = ("daily_revenue.yaml", "clean_prices.yaml", "broken.yaml", "steps.py")


def ensure_sample(folder: Path) -> None:
    """Make the folder and put the samples into it, unless there is such a folder already.

    Raises:
        OSError: it can't be made.

    """
    if folder.exists():
        return
    folder.mkdir(parents=True)
    source = resources.files(__name__)
    for name in FILES:
        with resources.as_file(source / name) as path:
            shutil.copyfile(path, folder / name)
