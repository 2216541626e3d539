"""What `tools/list` tells clients of a tool's effect: what policy says of it, not what its code claims."""

from __future__ import annotations

from typing import Any

from pdp.model import SideEffect


def annotated(entry: dict[str, Any], side_effect: SideEffect) -> dict[str, Any]:
    """Return a tool's wire entry with the hints that policy's `side_effect` gives.

    The author keeps the title, and the two hints that policy says nothing of, where they don't contradict it:
    `idempotentHint`, and `openWorldHint`, which is false unless said, since a server here stands for one
    system of the company's own.
    """
    theirs = entry.get("annotations")
    hints: dict[str, Any] = dict(theirs) if isinstance(theirs, dict) else {}
    hints["readOnlyHint"] = side_effect == "none"
    hints["destructiveHint"] = side_effect == "destroy"
    hints["idempotentHint"] = side_effect == "none" or hints.get("idempotentHint") is True
    hints.setdefault("openWorldHint", False)
    return {**entry, "annotations": hints}
