"""What a person sees: progress on stderr, results on stdout."""

from __future__ import annotations

import json
import sys

from identity.principal import JsonValue


def say(text: str) -> None:
    """A line of progress or a warning. On stderr, so that stdout holds results alone."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201 - this is the console


def give(text: str) -> None:
    """A result, on stdout."""
    print(text, flush=True)  # noqa: T201 - this is the console


def give_json(value: JsonValue, *, indent: int | None = None) -> None:
    """A result as JSON: one line, unless indented."""
    give(json.dumps(value, indent=indent, ensure_ascii=False))
