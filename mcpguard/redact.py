"""What a log may show of inputs and outputs: secrets left out by field name and by pattern, the rest cut.

It errs towards leaving out. It can't know every secret: a server that handles others names their fields, or
turns payloads off.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Final

from identity.principal import JsonValue

HIDDEN: Final = "[redacted]"

FIELDS: Final = (
    "password",
    "passwords",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "secrets",
    "token",
    "authorization",
    "api_key",
    "access_key",
    "private_key",
    "signing_key",
    "credential",
    "credentials",
    "cookie",
    "otp",
    "pin",
    "cvv",
    "ssn",
)
"""Names of fields, and words in such names, whose values are never shown."""

_MAX_DEPTH = 16
_LONGEST_NAME = 128
_SHORTEST = 6
_MARGIN = 1024
"""Characters beyond a cut that are looked at too, so that a cut through a secret doesn't hide what it is."""

# Each with what a text must hold for it to match at all: a search for fixed text costs next to nothing.
_PATTERNS: Final = (
    (("-----BEGIN",), r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)"),
    # JWS and JWE, cut ones too
    (("eyJ",), r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{4,}(?:\.[A-Za-z0-9_-]*)*"),
    (("earer", "EARER", "asic", "ASIC"), r"\b(?i:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"),
    (("AKIA", "ASIA", "AROA", "AIDA", "AGPA"), r"\b(?:AKIA|ASIA|AROA|AIDA|AGPA)[A-Z0-9]{16}\b"),
    (("gh", "glpat-"), r"\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,})"),
    (("xox", "sk-", "AIza"), r"\b(?:xox[abeprs]-[\w-]{10,}|sk-[\w-]{20,}|AIza[\w-]{30,})"),
    (("://",), r"(?<=://)[^\s/@:]{1,256}:[^\s/@]{1,256}(?=@)"),
)
_VALUE: Final = r""""[^"]*"?|'[^']*'?|(?i:(?:bearer|basic)\s+)?[^\s"'&,;)}]+"""
_CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")


class Redactor:
    """Leaves out what `FIELDS` and the names given besides say, and what looks like a secret."""

    def __init__(self, more_fields: Iterable[str] = ()) -> None:
        names = [words(name) for name in (*FIELDS, *more_fields)]
        self._names = frozenset("".join(name) for name in names if name)
        self._runs = tuple(name for name in names if name)
        spelled = "|".join(r"[_\-. ]?".join(map(re.escape, name)) for name in self._runs)
        named = rf"(?i:\b[\w.-]{{0,40}}?(?:{spelled}))[\"']?\s{{0,4}}[:=]\s{{0,4}}"
        assigned = rf"({named})(?:{_VALUE})"
        self._stems = _any({min(run, key=len) for run in self._runs})
        self._assigned = re.compile(assigned)
        self._signs = _any({sign for signs, _ in _PATTERNS for sign in signs})
        self._patterns = tuple((signs, re.compile(pattern, re.DOTALL)) for signs, pattern in _PATTERNS)
        self._is_secret = lru_cache(4096)(self._judge)

    def text(self, value: str) -> str:
        """Return the text without what looks like a secret."""
        if len(value) < _SHORTEST:
            return value
        if self._signs.search(value):
            for signs, pattern in self._patterns:
                if any(sign in value for sign in signs):
                    value = pattern.sub(HIDDEN, value)
        if ("=" in value or ":" in value) and self._stems.search(value.lower()):
            value = self._assigned.sub(_without, value)
        return _CARD.sub(_without_card, value)

    def secret(self, name: str) -> bool:
        """Whether a field of this name is one whose value is never shown."""
        return self._is_secret(name[:_LONGEST_NAME])

    def _judge(self, name: str) -> bool:
        found = words(name)
        joined = "".join(found)
        if joined in self._names or joined.endswith(tuple(n for n in self._names if len(n) > 4)):
            return True
        return any(tuple(found[at : at + len(run)]) == run for run in self._runs for at in range(len(found)))

    def shown(self, value: JsonValue, limit: int) -> JsonValue:
        """Return a copy fit for a log, of about `limit` characters at most."""
        return self._copy(value, _Budget(limit), 0)

    def _copy(self, value: JsonValue, budget: _Budget, depth: int) -> JsonValue:
        if isinstance(value, str):
            return self._string(value, budget)
        if isinstance(value, Mapping):
            return self._object(value, budget, depth)
        if isinstance(value, Sequence):
            return self._array(value, budget, depth)
        budget.left -= 8
        if isinstance(value, int) and not isinstance(value, bool) and _is_card(str(value)):
            return HIDDEN
        return value

    def _string(self, value: str, budget: _Budget) -> str:
        keep = max(budget.left, 0)
        text = self.text(value[: keep + _MARGIN])
        budget.left -= len(text) + 2
        if len(text) <= keep and len(value) <= keep + _MARGIN:
            return text
        return f"{text[:keep]}… ({len(value)} characters)"

    def _object(self, value: Mapping[str, JsonValue], budget: _Budget, depth: int) -> JsonValue:
        copy: dict[str, JsonValue] = {}
        for name, item in value.items():
            if budget.left <= 0 or depth >= _MAX_DEPTH:
                copy["…"] = f"{len(value) - len(copy)} more"
                break
            key = name if len(name) < 13 else self.text(name[:_LONGEST_NAME])
            budget.left -= len(key) + 4
            copy[key] = (
                HIDDEN if self.secret(name) and item is not None else self._copy(item, budget, depth + 1)
            )
        return copy

    def _array(self, value: Sequence[JsonValue], budget: _Budget, depth: int) -> JsonValue:
        copy: list[JsonValue] = []
        for item in value:
            if budget.left <= 0 or depth >= _MAX_DEPTH:
                copy.append(f"… {len(value) - len(copy)} more")
                break
            budget.left -= 2
            copy.append(self._copy(item, budget, depth + 1))
        return copy


class _Budget:
    """Characters that may still be shown."""

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        self.left = left


def words(name: str) -> tuple[str, ...]:
    """Split a name as programmers join them: `apiKey`, `API-Key` and `api_key` are the same words."""
    return tuple(word.lower() for word in _WORD.findall(name))


def _any(texts: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts))))


def _without(match: re.Match[str]) -> str:
    return f"{match.group(1)}{HIDDEN}"


def _without_card(match: re.Match[str]) -> str:
    return HIDDEN if _is_card(match.group()) else match.group()


def _is_card(text: str) -> bool:
    """Whether it has as many digits as a card's number and Luhn's check digit (ISO/IEC 7812-1)."""
    digits = [int(c) for c in text if c.isdigit()]
    if not 13 <= len(digits) <= 19:
        return False
    doubled = (sum(divmod(2 * d, 10)) for d in digits[-2::-2])
    return (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0
