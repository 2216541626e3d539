# ruff: noqa: E501 - one case a line
from __future__ import annotations

import pytest

from tests.pdp.folder import DAY, NOW, PolicyFolder


def test_the_shipped_policies_are_clean(folder: PolicyFolder) -> None:
    assert folder.warnings() == []


@pytest.mark.parametrize(
    ("file", "old", "new", "said"),
    [
        ("org.yaml", "  churn-beta:", "  idle: {users: [u]}\n  churn-beta:", "org.yaml:26:3: nothing uses the group 'idle'"),
        ("org.yaml", "until: 2027-06-01T00:00:00Z", "until: 2026-11-01T00:00:00Z", "the group 'churn-beta' has ended"),
        ("servers/presto.yaml", ", policy: ads-eng-only", "", "no tool asks for the tool policy 'ads-eng-only'"),
        ("servers/presto.yaml", "surfaces: [ai-chat, ide]", "surfaces: [report-bot]", "none of its surfaces brings users of its groups"),
        ("servers/scratchpad.yaml", "{id: tinkerers,", "{id: tinkerers, surfaces: [ide],", "nobody can satisfy the rule 'tinkerers': guardrails forbid"),
        ("servers/scratchpad.yaml", "{id: tinkerers,", "{id: tinkerers, surfaces: [ide, notebook],", "guardrails forbid all that it grants to ide"),
        ("servers/presto.yaml", "describe_table]}", "describe_table, run_query]}", None),
        ("servers/presto.yaml", "tools: [list_catalogs, list_schemas, list_tables, describe_table]}", "tools: [run_query, cancel_query]}", "nobody can satisfy the rule 'reports'"),
        ("servers/scratchpad.yaml", "tools: all}", "tools: [read_note]}", "no rule grants the tool 'write_note'"),
        ("org.yaml", "server_lifecycle: experimental}", "server_lifecycle: experimental, server_environment: prod}", "the guardrail 'prod-not-to-experiments' never matches: no server or tool"),
        ("org.yaml", "surface_environment: prod,", "surface_environment: prod, surfaces: [notebook],", "never matches: no surface"),
    ],
)  # fmt: skip
def test_warned_about(folder: PolicyFolder, file: str, old: str, new: str, said: str | None) -> None:
    folder.edit(file, old, new)
    assert folder.errors() == []
    found = folder.warnings()
    assert (found == []) if said is None else any(said in warning for warning in found), found


@pytest.mark.parametrize(
    ("days", "said"), [(31, None), (29, "30 days"), (6, "7 days"), (0.5, "a day"), (-1, None)]
)
def test_reviews_that_end_soon(folder: PolicyFolder, days: float, said: str | None) -> None:
    end = 1_810_857_600.0  # 2027-05-21
    found = [warning for warning in folder.warnings(end - days * DAY) if "review of" in warning]
    if said is None:
        assert found == []
    else:
        assert (
            f"reviews/security/presto.yaml:5:5: the security review of presto ends within {said}; "
            in found[0] + "".join(found)
        )
        assert len(found) == 1 + 4 * 2 + 1


def test_a_renewed_review_is_not_warned_about(folder: PolicyFolder) -> None:
    end = 1_810_857_600.0
    folder.approve("presto", "security", "legal-privacy", now=end - 10 * DAY)
    assert not any("review of presto" in warning for warning in folder.warnings(end - 5 * DAY))
    assert end > NOW
