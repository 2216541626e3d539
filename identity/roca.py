"""ROCA, CVE-2017-15361: RSA keys whose primes a broken chip library drew from a tiny, recognizable family.

Such a prime is `k * M + 65537**a mod M` with M a product of small primes. Modulo each of those, the prime and
so the modulus lies in the subgroup that 65537 generates, which a sound modulus does for all of them with a
chance of about 2**-27.
"""

from __future__ import annotations

_GENERATOR = 65537
# The small primes that divide M at every key size from 512 bits on.
_PRIMES = (
    *(3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73),
    *(79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137, 139, 149, 151, 157, 163, 167),
)


def _subgroup(prime: int) -> frozenset[int]:
    members = set()
    member = 1
    while member not in members:
        members.add(member)
        member = member * _GENERATOR % prime
    return frozenset(members)


_SUBGROUPS = {prime: _subgroup(prime) for prime in _PRIMES}


def is_roca(modulus: int) -> bool:
    """Whether an RSA modulus carries the fingerprint."""
    return all(modulus % prime in members for prime, members in _SUBGROUPS.items())
