"""Small YAML mappings that people write by hand, read strictly: no key twice, text keys, a bounded size."""

from __future__ import annotations

import yaml

LONGEST = 64 * 1024
_DEEPEST = 16


class YamlRefused(Exception):
    """It is no YAML, or says one thing twice."""


def mapping(text: str) -> dict[str, object] | None:
    """Read a mapping; None where the text is YAML of another shape (prose is a string).

    Raises:
        YamlRefused: it is no YAML, too long, too deep, or has a key twice: which one counts would be a guess.

    """
    if len(text) > LONGEST:
        raise YamlRefused(f"more than {LONGEST} characters of YAML")
    loader = yaml.SafeLoader(text)
    try:
        _check_depth(text)
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            return None
        keys = [key.value for key, _ in node.value]
        if any(not isinstance(key, str) for key in keys) or len(set(keys)) != len(keys) or "<<" in keys:
            raise YamlRefused("a key stands there twice, or is no plain text")
        value = loader.construct_document(node)
    except (yaml.YAMLError, ValueError) as error:  # a date like 2026-02-31 is a ValueError
        raise YamlRefused(f"not YAML: {str(error).splitlines()[0]}") from None
    finally:
        loader.dispose()
    return {key: value[key] for key in value if isinstance(key, str)}


def _check_depth(text: str) -> None:
    """Refuse deep nesting before the composer recurses into it."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _DEEPEST:
                raise YamlRefused("YAML nested too deep")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
