"""Markdown in sections. Headings come from a real parser: a `#` in a code block is none."""

from __future__ import annotations

from markdown_it import MarkdownIt

from servers.knowledge.split import Outline, Section

# Blocks alone: what stands within a line is not needed, and parsing it is most of the cost.
_PARSER = MarkdownIt("commonmark")
_PARSER.core.ruler.enableOnly(["normalize", "block"])


def read(text: str) -> tuple[str | None, list[Section]]:
    """Return the first heading of depth 1, and the sections with their Markdown as it was written."""
    tokens = _PARSER.parse(text)
    headings = [
        (token.map[0], token.map[1], int(token.tag[1:]), tokens[i + 1].content.strip())
        for i, token in enumerate(tokens)
        if token.type == "heading_open" and token.map is not None
    ]
    lines = text.split("\n")
    outline, heading, start = Outline(), "", 0
    sections: list[Section] = []
    for first, after, depth, content in headings:
        _add(sections, heading, lines[start:first])
        heading, start = outline.enter(depth, content), after
    _add(sections, heading, lines[start:])
    title = next((content for _, _, depth, content in headings if depth == 1 and content), None)
    return title, sections


def _add(sections: list[Section], heading: str, lines: list[str]) -> None:
    """A heading without text is kept too: somebody may look for it."""
    text = "\n".join(lines).strip("\n")
    if text.strip() or heading:
        sections.append(Section(heading, text if text.strip() else heading.rpartition(" > ")[2]))
