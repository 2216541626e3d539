"""The documents to start with: this project's own, and a few of an invented company, some with an ACL."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

_OWN = Path(__file__).with_name("sample")
_PROJECT = Path(__file__).parents[2]


def ensure_sample(folder: Path) -> bool:
    """Make the folder with the sample documents where there is no such folder; whether it did.

    The project's own documents come from a working copy of it; where it is installed without, only the
    invented company's are there.
    """
    if folder.exists():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made whole beside its place: a start that is cut off leaves no half of it.
    fresh = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    shutil.copytree(_OWN, fresh, dirs_exist_ok=True, copy_function=shutil.copyfile)
    for file in _project_documents():
        target = fresh / "gatehouse" / file.relative_to(_PROJECT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    fresh.rename(folder)
    return True


def _project_documents() -> list[Path]:
    if not (_PROJECT / "pyproject.toml").is_file():
        return []
    documents = sorted((_PROJECT / "docs").rglob("*.md"))
    return [file for file in (_PROJECT / "README.md", *documents) if file.is_file()]
