"""Figures as a person says them."""

from __future__ import annotations


def size(count: int) -> str:
    """Say bytes in decimal units, as 190.9 MB."""
    for unit, scale in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def span(milliseconds: int) -> str:
    """Say a duration, as 3.8 s."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    if milliseconds < 120_000:
        return f"{milliseconds / 1000:.1f} s"
    return (
        f"{milliseconds / 60_000:.1f} min"
        if milliseconds < 7_200_000
        else f"{milliseconds / 3_600_000:.1f} h"
    )


def share(part: int, whole: int) -> str:
    """Say a part of a whole, as 55 %."""
    return f"{100 * part / whole:.0f} %" if whole > 0 else "0 %"
