"""Adding an item to a list in a YAML file that people also write by hand: everything else stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator

import yaml


class NoListError(ValueError):
    """The file has no such list to add to."""


def flow(pairs: dict[str, str]) -> str:
    """A mapping of texts on one line: JSON strings are YAML strings, with nothing escaped as UTF-16."""
    return (
        "{"
        + ", ".join(f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in pairs.items())
        + "}"
    )


def appended(text: str, key: str, item: str) -> str:
    """`text` with `item`, a flow mapping, as the last item of the top-level list `key`.

    Raises:
        NoListError: there is none.

    """
    start, end = _list(iter(yaml.parse(text, Loader=yaml.CSafeLoader)), key)
    if start.start_mark is None or end.start_mark is None:
        raise NoListError(key)
    opens = _offset(text, start.start_mark.line, start.start_mark.column)
    closes = _offset(text, end.start_mark.line, end.start_mark.column)
    if not start.flow_style:
        return _after_block(text, start.start_mark.column, closes, item)
    if text[opens + 1 : closes].strip():
        return f"{text[:closes].rstrip().removesuffix(',')}, {item}{text[closes:]}"
    return f"{text[:opens].rstrip()}\n  - {item}{text[closes + 1 :]}"


def _after_block(text: str, indent: int, end: int, item: str) -> str:
    """The list ends where the next key begins, or with the file; comments between belong to the list."""
    head, tail = text[:end], text[end:]
    if head and not head.endswith("\n"):
        head += "\n"
    return f"{head}{' ' * indent}- {item}\n{tail}"


def _offset(text: str, line: int, column: int) -> int:
    before = text.split("\n")[:line]
    return min(sum(len(one) + 1 for one in before) + column, len(text))


def _list(events: Iterator[yaml.Event], key: str) -> tuple[yaml.SequenceStartEvent, yaml.Event]:
    """The start and the end of the list that the top-level mapping has under `key`."""
    depth, position = 0, 0
    wanted = False
    start: yaml.SequenceStartEvent | None = None
    for event in events:
        if isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
            if depth == 1 and start is not None:
                return start, event
            continue
        if depth == 1:
            # Keys and values of the top-level mapping alternate.
            if position % 2:
                start = event if wanted and isinstance(event, yaml.SequenceStartEvent) else None
            else:
                wanted = isinstance(event, yaml.ScalarEvent) and event.value == key
            position += 1
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
    raise NoListError(key)
