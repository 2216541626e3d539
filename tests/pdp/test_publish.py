"""Pages made of code are current, and what the schemas publish is what the loader accepts."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from pdp.document import parse
from pdp.publish import outdated, pages, write
from pdp.reasons import REASONS
from tests.pdp.folder import ROOT

SHIPPED = sorted([*(ROOT / "policies").rglob("*.yaml"), *(ROOT / "envoy").glob("*.local.yaml")])
MODELINE = re.compile(r"^# yaml-language-server: \$schema=(.*)$")


def test_what_is_published_is_current() -> None:
    """If not: `python -c 'from pathlib import Path; from pdp.publish import write; write(Path("docs"))'`."""
    assert list(outdated(ROOT / "docs")) == []


def test_writing_makes_it_current_and_then_does_nothing(tmp_path: Path) -> None:
    assert sorted(write(tmp_path)) == sorted(pages())
    assert write(tmp_path) == []


def test_every_reason_is_on_its_page() -> None:
    page = pages()["reasons.md"]
    for code, reason in REASONS.items():
        assert f"| `{code}` | {reason.status} |" in page


def shipped_schema(path: Path) -> dict[str, object]:
    kind = re.search(r"^kind: (\w+)$", path.read_text(), re.MULTILINE)
    assert kind is not None
    schema: dict[str, object] = json.loads((ROOT / f"docs/schema/{kind[1].lower()}.json").read_text())
    return schema


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: str(path.relative_to(ROOT)))
def test_shipped_files_name_their_schema_and_fit_it(path: Path) -> None:
    lines = path.read_text().split("\n")
    approved = "approved" in path.parts
    modeline = MODELINE.match(lines[1] if approved else lines[0])
    if path.name != "deployment.local.yaml":
        assert modeline is not None
    if modeline is not None and not approved:
        assert (path.parent / modeline[1]).resolve().parent == ROOT / "docs/schema"
        assert (path.parent / modeline[1]).exists()
    jsonschema.validate(parse(path.name, path.read_bytes()).value, shipped_schema(path))


@pytest.mark.parametrize("name", sorted(name for name in pages() if name.endswith(".json")))
def test_the_schemas_are_schemas(name: str) -> None:
    schema = json.loads(pages()[name])
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    ("old", "new"),
    [("tools: all}", "tools: some}"), ("lifecycle: production", "lifecycle: prod"), ("access:", "acess:"),
     ("groups: [ads, finance, data-infra]", "groups: [Ads]"),
     ("groups: [ads, finance, data-infra]", "groups: []")],
)  # fmt: skip
def test_the_schemas_refuse_what_the_loader_refuses(old: str, new: str) -> None:
    path = ROOT / "policies/servers/presto.yaml"
    value = parse("presto.yaml", path.read_text().replace(old, new).encode()).value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(value, shipped_schema(path))
