"""A working copy of the shipped policies, and ways to change it as a team or a reviewer would."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pdp.approve import Approved, approve
from pdp.check import Report, check
from pdp.store import PolicyStore

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
DAY = 86_400.0
PEOPLE = {"security": "dana@corp.example", "legal-privacy": "lee@corp.example", "genai": "kim@corp.example"}


@dataclass(frozen=True)
class PolicyFolder:
    root: Path
    reviewers: Path

    @classmethod
    def copy(cls, where: Path) -> PolicyFolder:
        shutil.copytree(ROOT / "policies", where / "policies")
        shutil.copy(ROOT / "envoy" / "reviewers.local.yaml", where / "reviewers.yaml")
        return cls(where / "policies", where / "reviewers.yaml")

    def read(self, file: str) -> str:
        return (self.root / file).read_text("utf-8")

    def write(self, file: str, text: str) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")

    def edit(self, file: str, old: str, new: str) -> None:
        text = self.read(file)
        assert text.count(old) == 1, (file, old, text.count(old))
        self.write(file, text.replace(old, new))

    def approve(self, subject: str, *kinds: str, now: float = NOW) -> Approved:
        for kind in kinds:
            done = approve(
                self.root,
                self.reviewers,
                subject,
                kind=kind,
                approver=PEOPLE[kind],
                ticket="T-1",
                now=now,
            )
        return done

    def store(self) -> PolicyStore:
        return PolicyStore(self.root, self.reviewers)

    def check(self, now: float = NOW) -> Report:
        return check(self.root, self.reviewers, now)

    def errors(self) -> list[str]:
        return [str(problem) for problem in self.check().errors]

    def closed(self) -> list[str]:
        return [str(problem) for problem in self.check().closed]

    def warnings(self, now: float = NOW) -> list[str]:
        return [str(problem) for problem in self.check(now).warnings]
