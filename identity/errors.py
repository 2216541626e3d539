"""What goes wrong with credentials: one exception, told apart by a stable code.

A code is a row of `pdp.reasons`, spelled the same; a test holds the two together, since `identity` imports
nothing of ours.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

Code: TypeAlias = Literal[
    "credentials_required",
    "identity_invalid",
    "keys_unavailable",
    "svid_ambiguous",
    "svid_audience",
    "svid_expired",
    "svid_malformed",
    "svid_untrusted",
    "token_algorithm",
    "token_audience",
    "token_claims",
    "token_expired",
    "token_groups_overage",
    "token_issuer_unknown",
    "token_key_unknown",
    "token_lifetime",
    "token_malformed",
    "token_not_yet_valid",
    "token_signature",
]


class IdentityError(Exception):
    """Credentials that don't hold. `detail` is safe to log: it repeats neither a token nor what is in one."""

    def __init__(self, code: Code, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code: Code = code
        self.detail = detail


class KeysUnavailable(IdentityError):
    """There are no keys to verify with: nobody's fault but ours or the issuer's, so never a denial."""

    def __init__(self, detail: str) -> None:
        super().__init__("keys_unavailable", detail)


class KeyFileError(Exception):
    """A key file that can't be used as it is: unreadable, readable by others, or not what it should hold."""
