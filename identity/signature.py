"""Whether a signature holds: the one place where key, algorithm and token meet, PyJWT doing the crypto."""

from __future__ import annotations

from jwt.algorithms import get_default_algorithms

from identity.errors import IdentityError
from identity.jose import Compact
from identity.jwk import ALGORITHMS, Jwk, JwkSet

_BY_NAME = {name: algorithm for name, algorithm in get_default_algorithms().items() if name in ALGORITHMS}


def verify(compact: Compact, keys: JwkSet, algorithms: frozenset[str]) -> Jwk:
    """Check a token's signature by the one key it names, under one of `algorithms`; give back that key.

    Raises:
        IdentityError: `token_algorithm`, `token_key_unknown` or `token_signature`.

    """
    if compact.alg not in algorithms or compact.alg not in _BY_NAME:
        raise IdentityError("token_algorithm", "the algorithm is not one of those pinned")
    key = keys.find(compact.kid)
    if key is None:
        raise IdentityError("token_key_unknown", "no published key has the token's kid")
    if compact.alg not in key.algorithms:
        raise IdentityError("token_algorithm", "the key is not for the token's algorithm")
    if not _BY_NAME[compact.alg].verify(compact.signing_input, key.key, compact.signature):
        raise IdentityError("token_signature", "the signature does not verify")
    return key
