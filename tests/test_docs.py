"""The pages: their links lead somewhere, and what they name exists."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from pdp.reasons import REASONS

ROOT = Path(__file__).parents[1]
_TRACKED = subprocess.run(
    ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
    cwd=ROOT, capture_output=True, text=True, check=False,
).stdout.split()  # fmt: skip
PAGES = [ROOT / name for name in _TRACKED if not name.startswith("tests/vectors/")]

_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)#\s]+)")
_CODE = re.compile(
    r"`((?:token|svid|tool|malformed|surface|server|channel|policy|keys|group|review|identity|listing)_[a-z_]+)`"
)
_NOT_REASONS = re.compile(
    r"^(tool_policies|server_environment|surface_environment|surface_kind|server_lifecycle)$"
)


@pytest.mark.skipif(not _TRACKED, reason="needs git: run it in a clone")
def test_every_link_leads_somewhere() -> None:
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in PAGES
        for target in _LINK.findall(page.read_text())
        if not (page.parent / target).exists()
    ]
    assert PAGES
    assert broken == []


@pytest.mark.parametrize("page", ["README.md", "docs/running.md", "docs/server.md", "docs/policy.md"])
def test_every_reason_that_a_page_names_is_one(page: str) -> None:
    named = set(_CODE.findall((ROOT / page).read_text()))
    assert {code for code in named if code not in REASONS and not _NOT_REASONS.match(code)} == set()
