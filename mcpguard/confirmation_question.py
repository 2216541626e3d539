"""What a person reads before a tool runs: the tool, what it would touch, and every argument as it was sent.

The arguments come from a model and may want to mislead: a line break that fakes a line of ours, a mark that
turns the reading direction, so much text that the rest is out of sight. So each argument is one line of
JSON with such characters escaped, cut with its length and digest said, and the tool's own parameters come
in the tool's own order, whatever else was sent.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import unicodedata
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
from mcp.server.mcpserver.tools import Tool as OfferedTool

from identity.principal import JsonValue
from mcpguard.authorize import authorization_of
from pdp.model import Tool

FIELD = "confirm"
"""The form's one field; accepting the form with it off declines."""
LONGEST_VALUE = 600
"""Characters of one argument that are shown."""
LONGEST_PREVIEW = 2000

_EFFECTS = {"none": "", "write": "It changes data.", "destroy": "It can destroy data."}
_HIDDEN = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def form_schema() -> dict[str, JsonValue]:
    """Return the form: one box to tick, so that a client that submits what it was given confirms nothing."""
    box: dict[str, JsonValue] = {
        "type": "boolean",
        "title": "Run it",
        "description": "Tick to run the tool once, with exactly these arguments.",
        "default": False,
    }
    return {"type": "object", "properties": {FIELD: box}, "required": [FIELD]}


def confirmed(content: object) -> bool:
    """Whether an accepted form has the box ticked."""
    return isinstance(content, dict) and content.get(FIELD) is True


def message(
    server: str, tool: Tool, offered: OfferedTool, arguments: Mapping[str, JsonValue], preview: str
) -> str:
    """Write the question."""
    lines = [f"Run {tool.name} on {server}? {_EFFECTS[tool.side_effect]}".rstrip()]
    if preview:
        lines += [_visible(line) for line in _cut(preview, LONGEST_PREVIEW).splitlines()]
    lines += ["Arguments:", *_argument_lines(offered.parameters, arguments)]
    return "\n".join(lines)


async def preview(offered: OfferedTool, validated: Mapping[str, Any]) -> str:
    """Ask the tool's author what this call would touch; empty where the tool has no `preview`.

    Raises:
        ToolError: the author's function says that the call can't work, and why.

    """
    said = authorization_of(offered.fn)
    if said is None or said.preview is None:
        return ""
    function = said.preview
    given = {name: validated[name] for name in inspect.signature(function).parameters}
    if inspect.iscoroutinefunction(function):
        text: object = await function(**given)
    else:
        text = await anyio.to_thread.run_sync(lambda: function(**given))
    return str(text)


def _argument_lines(schema: Mapping[str, Any], arguments: Mapping[str, JsonValue]) -> list[str]:
    known = schema.get("properties", {})
    lines = []
    for name, described in known.items():
        if name in arguments:
            lines.append(f"  {name}: {_value(arguments[name])}")
        elif "default" in described:
            lines.append(f"  {name}: {_value(described['default'])} (its default)")
    unknown = len(arguments.keys() - known.keys())
    if unknown:
        lines.append(f"  and {unknown} that the tool does not have")
    return lines or ["  none"]


def _value(value: JsonValue) -> str:
    return _visible(_cut(json.dumps(value, ensure_ascii=False), LONGEST_VALUE))


def _cut(text: str, longest: int) -> str:
    if len(text) <= longest:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[:longest]}… (cut; {len(text)} characters in all, SHA-256 {digest}…)"


def _visible(text: str) -> str:
    """Escape what has no form of its own: controls, marks that turn the direction, unassigned letters."""
    return "".join(_escaped(c) if unicodedata.category(c) in _HIDDEN else c for c in text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
