from __future__ import annotations

import pytest
import yaml

from pdp.listing import NoListError, appended, flow

ITEM = flow({"a": 'x: "y" #z', "b": "ü🙂"})
VALUE = {"a": 'x: "y" #z', "b": "ü🙂"}


@pytest.mark.parametrize(
    "text",
    [
        "locks: []\n",
        "locks: []",
        "locks: [ ]  # none\n",
        "locks:\n  - {a: '1'}\n",
        "locks:\n- {a: '1'}\n",
        "locks:\n    - a: '1'\n      b: '2'",
        "locks: [{a: '1'}, {a: '2'}]\n",
        "locks: [\n  {a: '1'},\n]\n",
        "other: [[1], {locks: [9]}]\nlocks: []\nafter: {locks: []}\n",
        "locks:\n  - {a: '1'}\n# a comment\nafter: 1\n",
        "# before\nlocks:  # with\n  # in\n  - {a: '1'}  # at\n  # end\n",
        "a: ü🙂\nlocks: []\n",
    ],
)
def test_one_item_more_and_nothing_else(text: str) -> None:
    before, after = yaml.safe_load(text), yaml.safe_load(appended(text, "locks", ITEM))
    assert after.pop("locks") == [*before.pop("locks"), VALUE]
    assert after == before


def test_comments_and_lines_stay() -> None:
    text = "# one\nlocks:\n  - {a: '1'}  # two\n  # three\n"
    assert appended(text, "locks", "{a: '2'}") == text + "  - {a: '2'}\n"
    assert (
        appended("# one\nlocks: []  # two\n", "locks", "{a: '2'}") == "# one\nlocks:\n  - {a: '2'}  # two\n"
    )


@pytest.mark.parametrize(
    "text", ["a: 1\n", "locks: 1\n", "locks: {a: []}\n", "a: {locks: []}\n", "- locks\n", ""]
)
def test_no_such_list(text: str) -> None:
    with pytest.raises(NoListError):
        appended(text, "locks", ITEM)
