"""The tour's second half: policy changes while calls go on. Everything is put back at the end."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from gatehouse.approving import Approval, approve
from gatehouse.errors import Failure
from gatehouse.observe import policy_digest, wait_until
from gatehouse.state import write
from gatehouse.tour_bench import Bench, Result, repeat_for
from gatehouse.tour_calls import OK, SQL, Row
from gatehouse.working_policy import DEVELOPMENT_REVIEWER
from pdp.locking import lock
from pdp.store import PolicyStore

IN_FORCE_SECONDS = 5.0
"""How long a change is waited for. What the tour promises is less: `PROMISED_SECONDS`."""
PROMISED_SECONDS = 1.0
_LAPSE_SECONDS = 2

_EXPIRES = re.compile(r'expires: "?[\w:.+-]+"?')
_RULE = "groups: [ads, finance, data-infra], tools: all"
_WIDER = "groups: [ads, finance, data-infra, employees], tools: all"


def changes(bench: Bench) -> Iterator[Result]:
    """Lock somebody; edit policy without and with review; let a review lapse."""
    files = bench.addresses["files"]
    assert isinstance(files, dict)  # noqa: S101 - written by this command
    policies, reviewers = Path(str(files["policies"])), Path(str(files["reviewers"]))
    with _put_back(bench, policies):
        yield from _locked(bench, policies, reviewers)
        yield from _reviewed(bench, policies, reviewers)
        yield from _lapsed(bench, policies)


def _locked(bench: Bench, policies: Path, reviewers: Path) -> Iterator[Result]:
    row = Row("lena, Ads engineer", "ide", "run_query", OK, user="lena", arguments=SQL)
    yield bench.run(row)
    now = time.time()
    why, by = "TOUR", DEVELOPMENT_REVIEWER
    lock(policies, reviewers, "user", "sso:lena", until=now + 3600, why=why, by=by, now=now)
    yield _in_force(bench, replace(row, who="lena, now locked", expected="locked"))


def _reviewed(bench: Bench, policies: Path, reviewers: Path) -> Iterator[Result]:
    """An edit that opens Presto to every employee: hana, of HR, is the one who would notice."""
    row = Row("hana, rule edited", "ide", "run_query", "group_not_allowed", user="hana", arguments=SQL)
    proposal = policies / "servers" / "presto.yaml"
    text = proposal.read_text("utf-8")
    if _RULE not in text:
        raise Failure(
            f"{proposal} has no rule with {_RULE!r}, which the tour edits", "delete that policy folder"
        )
    before = PolicyStore(policies, reviewers).load().digest
    # The lock has reached the server already; the edge may see it a moment later.
    wait_until(lambda: policy_digest(_metrics(bench)) == before, IN_FORCE_SECONDS)
    proposal.write_text(text.replace(_RULE, _WIDER), "utf-8")
    unchanged = repeat_for(PROMISED_SECONDS, lambda: bench.run(row))
    same = policy_digest(_metrics(bench)) == before
    yield replace(unchanged, note="" if same else "an edit without a review is in force", failed=not same)

    approve(policies, reviewers, Approval("presto", DEVELOPMENT_REVIEWER, "TOUR", time.time()))
    yield _in_force(bench, replace(row, who="hana, rule approved", expected=OK))


def _lapsed(bench: Bench, policies: Path) -> Iterator[Result]:
    """The same text, whose approvals end in two seconds: what closes the server is time alone."""
    row = Row("ana, review ends soon", "ide", "run_query", OK, user="ana", arguments=SQL)
    before = policy_digest(_metrics(bench))
    ends = _end_reviews(policies, time.time() + _LAPSE_SECONDS)
    wait_until(lambda: policy_digest(_metrics(bench)) not in (before, None), IN_FORCE_SECONDS)
    yield bench.run(row)
    lapsed = replace(row, who="ana, review lapsed", expected="review_expired")
    result = bench.run(lapsed)
    while not result.as_expected and time.time() < ends + IN_FORCE_SECONDS:
        result = bench.run(lapsed)
    yield result


def _end_reviews(policies: Path, soon: float) -> int:
    """Let every approval of Presto end soon; returns when. Each file is replaced at once."""
    ends = int(soon) + 1
    when = datetime.fromtimestamp(ends, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for file in (policies / "reviews").glob("*/presto.yaml"):
        write(file, _EXPIRES.sub(f'expires: "{when}"', file.read_text("utf-8")))
    return ends


def _metrics(bench: Bench) -> str:
    return str(bench.addresses["extauthz_metrics"])


def _in_force(bench: Bench, row: Row) -> Result:
    """Make the call until it goes as a change that was just saved wants it: Envoy's side and the server's."""
    saved = time.monotonic()
    while True:
        result = bench.run(row)
        took = time.monotonic() - saved
        if result.as_expected or took > IN_FORCE_SECONDS:
            break
    if not result.as_expected:
        return replace(result, note=f"not in force after {IN_FORCE_SECONDS:g} s")
    return replace(result, note=f"in force after {took * 1000:.0f} ms", failed=took > PROMISED_SECONDS)


@contextmanager
def _put_back(bench: Bench, policies: Path) -> Iterator[None]:
    """Restore the policy folder, whatever happens, and wait until that is in force."""
    digest = policy_digest(_metrics(bench))
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "policies"
        shutil.copytree(policies, kept)
        try:
            yield
        finally:
            for file in (policies / "reviews").glob("*/presto.yaml"):
                if not (kept / file.relative_to(policies)).exists():
                    file.unlink()
            shutil.copytree(kept, policies, dirs_exist_ok=True)
            wait_until(lambda: policy_digest(_metrics(bench)) == digest, IN_FORCE_SECONDS)
