"""The words of a question. Only these reach an engine: operators, quotes and wildcards are not words."""

from __future__ import annotations

import unicodedata

LONGEST_QUERY = 1000
MOST_WORDS = 32
_LONGEST_WORD = 64

# They stand in nearly every passage, so they cost most and say least.
_SAY_LITTLE = """
a an and are as at be by can do does for from has have how i if in into is it its me my of on or our
should so that the their them there these this to was we what when where which who why will with you your
"""
_STOP = frozenset(_SAY_LITTLE.split())


def words_of(text: str) -> tuple[str, ...]:
    """Return the distinct words, in order, at most `MOST_WORDS`; stop words only for want of others."""
    normal = unicodedata.normalize("NFKC", text[:LONGEST_QUERY]).casefold()
    # By category rather than by \w, which breaks words of Indic scripts at their vowel signs.
    spaced = "".join(c if unicodedata.category(c)[0] in "LNM" else " " for c in normal)
    found = tuple(dict.fromkeys(word[:_LONGEST_WORD] for word in spaced.split()))
    telling = tuple(word for word in found if word not in _STOP)
    return (telling or found)[:MOST_WORDS]
