from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from identity.principal import SpiffeId, SpiffeIdError

CASES = json.loads((Path(__file__).parents[1] / "vectors/spiffe/spiffe_id_cases.json").read_text())["cases"]


def test_the_corpus_is_whole() -> None:
    assert len(CASES) == 535


@pytest.mark.parametrize("case", CASES, ids=lambda case: ascii(case["name"]))
def test_agrees_with_go_spiffe(case: dict) -> None:
    try:
        spiffe_id = SpiffeId.parse(case["in"])
    except SpiffeIdError:
        assert not case["valid"]
    else:
        assert case["valid"]
        assert str(spiffe_id) == case["in"]


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://corp.example/a\n",
        "Spiffe://corp.example/a",
        "spiffe://Corp.example/a",
        "spiffe://corp.example/a/",
        "spiffe://corp.example//a",
        "spiffe://corp.example:443/a",
        "spiffe://user@corp.example/a",
        "spiffe://corp.example/a?b",
        "spiffe://corp.example/a#b",
        "spiffe://corp.example/%61",
        "spiffe://corp.example/..",
        "spiffe://" + "a" * 256 + "/a",
        "spiffe://corp.example/" + "a" * 2048,
        "spiffe://corp.example/é",
        "spiffe://corp.ex\u0661mple/a",
    ],
)
def test_refuses(text: str) -> None:
    with pytest.raises(SpiffeIdError) as caught:
        SpiffeId.parse(text)
    assert text not in str(caught.value)


@pytest.mark.parametrize("length", [2047, 2048])
def test_takes_2048_bytes(length: int) -> None:
    text = "spiffe://corp.example/"
    text += "a" * (length - len(text))
    assert str(SpiffeId.parse(text)) == text


@given(st.from_regex(r"spiffe://[a-z0-9._-]{1,20}(/[a-zA-Z0-9._-]{1,8}){0,3}", fullmatch=True) | st.text())
def test_whatever_parses_prints_as_it_was(text: str) -> None:
    try:
        spiffe_id = SpiffeId.parse(text)
    except SpiffeIdError:
        return
    assert str(spiffe_id) == text
    assert SpiffeId.parse(str(spiffe_id)) == spiffe_id
