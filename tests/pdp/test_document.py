from __future__ import annotations

import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from pdp.document import MAX_DEPTH, parse


def problems(text: str | bytes) -> list[str]:
    data = text if isinstance(text, bytes) else text.encode()
    return [str(problem) for problem in parse("f.yaml", data).problems]


def test_values_know_where_they_stand() -> None:
    document = parse("f.yaml", b"a: 1\nb:\n  - x: [true, 'no', 1.5]\n    z: text\n")
    assert document.problems == []
    assert document.value == {"a": 1, "b": [{"x": [True, "no", 1.5], "z": "text"}]}
    assert document.values["b", 0, "x", 1] == (3, 15)
    assert document.keys["b", 0, "z"] == (4, 5)
    assert document.at(("b", 0, "gone", "deeper")).line == 3


@pytest.mark.parametrize(
    "word", ["no", "No", "NO", "yes", "on", "Off", "y", "N", "True", "FALSE", "Null", "~", "<<", "="]
)
def test_words_that_readers_of_yaml_disagree_on_are_refused_with_a_hint(word: str) -> None:
    (problem,) = problems(f"groups: [{word}]\n")
    assert problem.startswith("f.yaml:1:10: ")
    assert "quote it" in problem
    assert parse("f.yaml", f"groups: ['{word}']\n".encode()).value == {"groups": [word]}


@pytest.mark.parametrize(
    "number",
    ["010", "0o17", "0x1F", "0b11", "1_000", "+5", ".5", "5.", "12:30", ".inf", "-.INF", ".nan", "1e999"],
)
def test_numbers_that_json_does_not_have_are_refused(number: str) -> None:
    (problem,) = problems(f"a: {number}\n")
    assert "quote it to mean text" in problem


def test_a_number_beyond_what_json_holds_exactly_is_refused() -> None:
    assert problems(f"a: {2**53 - 1}\n") == []
    assert "too large a number" in problems(f"a: {2**53}\n")[0]
    assert "too large a number" in problems("a: " + "9" * 10_000)[0]


@pytest.mark.parametrize("key", ["1", "true", "1.5"])
def test_a_key_that_is_not_text_is_refused(key: str) -> None:
    assert f'the key {key} is not text; quote it: "{key}"' in problems(f"{key}: x\n")[0]


def test_plain_dates_and_times_stay_text() -> None:
    document = parse("f.yaml", b"a: 2026-11-22\nb: 2026-12-01T00:00:00Z\nc: 00u1\nd: C024BE91L\n")
    assert document.problems == []
    assert document.value == {"a": "2026-11-22", "b": "2026-12-01T00:00:00Z", "c": "00u1", "d": "C024BE91L"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2\n", "f.yaml:2:1: the key 'a' stands here twice; first in line 1"),
        ("a: &x 1\n", "f.yaml:1:4: an anchor, &x; policy has no anchors; remove it"),
        ("a: &x [1]\nb: *x\n", "f.yaml:2:4: an alias, *x; say it again: policy is read where it stands"),
        ("a: !!int 5\n", "f.yaml:1:4: a tag, 'tag:yaml.org,2002:int'; policy has no tags; remove it"),
        ("a: ! no\n", "f.yaml:1:4: a tag, '!'; policy has no tags; remove it"),
        ("a:\n", "f.yaml:1:3: nothing stands here; give it a value, or leave the key out"),
        ("a: null\n", "f.yaml:1:4: nothing stands here; give it a value, or leave the key out"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: a second document in one file; one file, one document"),
        ("", "f.yaml:1:1: the file says nothing"),
        ("? [a]\n: b\n", "f.yaml:1:3: a key that is not text"),
        ("a: b: c\n", "f.yaml:1:5: not YAML: mapping values are not allowed in this context"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    assert said in problems(text)


@pytest.mark.parametrize("hidden", ["\u2028", "\x85", "\u202e", "\ufeff", "\u200b", "\x07", "\x7f", "\r"])
def test_text_that_a_reviewer_cannot_see_is_refused(hidden: str) -> None:
    """YAML 1.1 ends a line at U+2028: what stands after it in a comment would be policy."""
    (problem,) = problems(f"a: 1\n# x{hidden}b: 2\n")
    assert problem.startswith("f.yaml:2:4: an invisible character")


def test_windows_line_ends_are_fine() -> None:
    assert parse("f.yaml", b"a: 1\r\nb: 2\r\n").value == {"a": 1, "b": 2}


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 100_000, "{a: " * 100_000, "a: " + "[" * 40 + "]" * 40]
)
def test_depth_is_bounded_while_reading(text: str) -> None:
    """libyaml's own composer recurses in C here, and takes the process with it."""
    assert f"nested deeper than {MAX_DEPTH}" in problems(text)[0]


def test_not_utf8_and_too_large() -> None:
    assert problems(b"a: 1\nb: \xff\n") == ["f.yaml:2:1: not UTF-8"]
    assert "larger than" in problems(b"#" * 5_000_000)[0]


@given(
    st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass"))
)
def test_no_bytes_make_the_reader_fail(data: bytes) -> None:
    document = parse("f.yaml", data)
    assert document.problems or document.value is not None


YAMLISH = st.text(alphabet="ab: -[]{},'\"#&*!|>%?\n\t0~.", max_size=80)


@given(YAMLISH)
def test_no_text_made_of_yaml_makes_the_reader_fail(text: str) -> None:
    document = parse("f.yaml", text.encode())
    if not document.problems:
        json.dumps(document.value)


PLAIN = st.from_regex(r"[a-z0-9+._:-]{1,12}", fullmatch=True)


@given(PLAIN)
def test_what_is_read_is_what_yaml_11_reads_or_it_is_refused(text: str) -> None:
    """Dates excepted, which stay text here."""
    source = f"[{text}]"
    document = parse("f.yaml", source.encode())
    if document.problems:
        return
    (theirs,) = yaml.safe_load(source)
    (ours,) = document.value  # type: ignore[misc]
    if type(theirs).__name__ in ("date", "datetime"):
        assert ours == text
    else:
        assert (ours, type(ours)) == (theirs, type(theirs))


JSON = st.recursive(
    st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_json_reads_as_itself(value: object) -> None:
    document = parse("f.yaml", json.dumps(value).encode())
    if not document.problems:
        assert document.value == value
