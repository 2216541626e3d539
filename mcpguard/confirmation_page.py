"""What stands behind a confirmation page: one question to read, and its answer.

For clients that know URL mode only. It speaks JSON and shows a question to nobody but the person who was
asked, known here by the same identity assertion as on every call; whatever shows it to a browser has to sign
that person in first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio.to_thread

from identity import strictjson
from identity.assertion import Assertion
from identity.principal import JsonValue
from mcpguard.confirmation_records import Record, Records, RecordsUnavailable, Step, person_of

PATH = b"/confirmations/"
_ANSWERS = {"accept": Step.APPROVED, "decline": Step.DECLINED}


@dataclass(frozen=True, slots=True)
class ConfirmationPage:
    """The questions of one server."""

    server: str
    records: Records
    clock: Callable[[], float]

    async def answer(
        self, assertion: Assertion, method: str, record_id: str, body: bytes
    ) -> tuple[int, JsonValue]:
        """Show a question (GET), or answer it (POST `{"answer": "accept"}`, or "decline")."""
        try:
            return await self._answer(assertion, method, record_id, body)
        except RecordsUnavailable:
            return 503, {"error": "confirmations can't be read at the moment"}

    async def _answer(
        self, assertion: Assertion, method: str, record_id: str, body: bytes
    ) -> tuple[int, JsonValue]:
        record = await anyio.to_thread.run_sync(self.records.find, record_id, self.clock())
        user = assertion.user
        if record is None or user is None or not self._theirs(record, user.issuer, user.subject):
            return 404, {"error": "no such question to you"}
        if method == "GET":
            return 200, _shown(record)
        try:
            said = strictjson.loads_object(body)
        except strictjson.JsonError:
            said = {}
        after = _ANSWERS.get(str(said.get("answer")))
        if after is None or said.keys() != {"answer"}:
            return 400, {"error": 'expected {"answer": "accept"} or {"answer": "decline"}'}
        stood = await anyio.to_thread.run_sync(self.records.move, record_id, Step.OPEN, after, self.clock())
        if stood is not Step.OPEN:
            return 409, {"error": f"the question is {stood.value}"}
        return 200, {"step": after.value}

    def _theirs(self, record: Record, issuer: str, subject: str) -> bool:
        # A question in form mode has no text here: it is answered through the client, and not around it.
        return (
            record.person == person_of(issuer, subject)
            and record.server == self.server
            and bool(record.message)
        )


def _shown(record: Record) -> JsonValue:
    return {
        "server": record.server,
        "tool": record.tool,
        "message": record.message,
        "expires": record.expires,
        "step": record.step.value,
    }
