"""Pages that are made of code: JSON Schemas for editors, and the table of reasons. A test keeps them so."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pdp.deployment_file import DeploymentFile
from pdp.reasons import REASONS
from pdp.schema import KINDS, published


def pages() -> dict[str, str]:
    """Path below `docs/` to text."""
    schemas = {
        f"schema/{name}": text for name, text in published({**KINDS, "deployment": DeploymentFile}).items()
    }
    return {"reasons.md": reasons_page(), **schemas}


def write(docs: Path) -> list[str]:
    """Write every page that isn't current below `docs`, and say which they were."""
    stale = outdated(docs)
    for name, text in stale.items():
        path = docs / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return list(stale)


def outdated(docs: Path) -> Mapping[str, str]:
    """The pages that differ from what they should be, with the right text."""
    return {name: text for name, text in pages().items() if not _is(docs / name, text)}


def _is(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") == text
    except FileNotFoundError:
        return False


def reasons_page() -> str:
    """`docs/reasons.md`: every reason a call is refused for, in the order of a decision."""
    rows = [
        f"| `{reason.code}` | {reason.status} | {reason.meaning} | {reason.remedy} |"
        for reason in REASONS.values()
    ]
    return "\n".join(
        [
            "# Why a call is refused",
            "",
            "Made from `pdp/reasons.py` by `make docs`; don't edit it here.",
            "",
            "The checks run in this order, and the first that fails decides. The same code stands in the",
            "answer, in the decision log and in the metrics. A code never changes its meaning.",
            "",
            "| code | HTTP | what it means | what to do |",
            "|---|---|---|---|",
            *rows,
            "",
        ]
    )
