"""From bytes to text, titles, sections and passages."""

from __future__ import annotations

import time

import pytest

from servers.knowledge.engine import Kind
from servers.knowledge.reading import Page, ReadingRefused, kind_of, read
from servers.knowledge.split import LONGEST


def page(content: str | bytes, kind: Kind = "markdown", path: str = "some-page.md") -> Page:
    return read(path, kind, content.encode() if isinstance(content, str) else content)


def headings(found: Page) -> list[tuple[str, str]]:
    return [(p.heading, p.text) for p in found.passages]


def test_markdown_in_sections() -> None:
    found = page("intro\n\n# One\n\nfirst\n\n## Two\n\n```sh\n# no heading\n```\n\nThree\n=====\n\nlast\n")
    assert found.title == "One"
    assert headings(found) == [
        ("", "intro"),
        ("One", "first"),
        ("One > Two", "```sh\n# no heading\n```"),
        ("Three", "last"),
    ]


def test_a_heading_alone_can_be_found() -> None:
    assert headings(page("# One\n\n## Two\n")) == [("One", "One"), ("One > Two", "Two")]
    assert page("").passages == ()


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("---\ntitle: Given\n---\n# One\n", "Given"),
        ("---\ntitle: 7\n---\n# One\n", "One"),
        ("no heading\n", "some page"),
        ("## Only a second\n", "some page"),
        (f"# {'x' * 500}\n", "x" * 200),
    ],
)
def test_titles(content: str, title: str) -> None:
    assert page(content).title == title


def test_front_matter() -> None:
    found = page("---\ngroups: [ads, hr]\nupdated: 2026-01-02\n---\ntext\n")
    assert (found.level, found.updated, found.text) == ({"ads", "hr"}, 1_767_312_000.0, "text")
    dated = page("---\nupdated: 2026-01-02 03:00:00\n...\ntext")
    assert (dated.level, dated.updated) == (None, 1_767_312_000.0 + 3 * 3600)
    assert page("---\nupdated: soon\n---\ntext").updated is None
    assert page("<p>text", "html").level is None
    assert page("---\ngroups: [ads]\n---\n<p>text", "html").level == {"ads"}


@pytest.mark.parametrize(
    "content", ["---\n", "---\nprose\n---\nmore\n", "---\n---\n", "----\nx\n", "---\n\nprose\n"]
)
def test_rules_are_no_front_matter(content: str) -> None:
    assert page(content).level is None


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("---\na: &a [x]\nb: [*a, *a\n---\n", "can't be read"),
        ("---\na: 2026-02-31\n---\n", "can't be read"),
        ("---\na: !!python/object:os.system x\n---\n", "can't be read"),
        ("---\n" + "[" * 3000 + "\n---\n", "can't be read"),
        ("---\na: " + "[" * 40 + "]" * 40 + "\n---\n", "too deep"),
        ("---\n<<: {groups: [ads]}\n---\n", "twice, or is no plain text"),
        ("---\nx: " + "y" * 70_000 + "\n---\n", "characters of YAML"),
        (b"\x00\x01\x02", "binary"),
        ("a".encode("utf-16-le") + b"b\0", "binary"),
    ],
)
def test_refused(content: str | bytes, why: str) -> None:
    with pytest.raises(ReadingRefused, match=why):
        page(content)


UMLAUTS = "# Größe\n\nÜber naïve Öfen\n"


@pytest.mark.parametrize(
    "content",
    [
        UMLAUTS.encode(),
        b"\xef\xbb\xbf" + UMLAUTS.encode(),
        UMLAUTS.encode("utf-16"),
        b"\xfe\xff" + UMLAUTS.encode("utf-16-be"),
        UMLAUTS.encode("cp1252"),
        UMLAUTS.replace("\n", "\r\n").encode(),
        UMLAUTS.replace("\n", "\r").encode(),
        UMLAUTS.replace("ö", "o\u0308").encode(),
    ],
)
def test_encodings(content: bytes) -> None:
    found = page(content)
    assert found.title == "Größe"
    assert found.text == "# Größe\n\nÜber naïve Öfen"


def test_text() -> None:
    found = page("\n  First line\n\nthe rest\n", "text", "a.txt")
    assert (found.title, found.text) == ("First line", "  First line\n\nthe rest")
    assert page("x" * 100, "text", "long_line.txt").title == "long line"


HTML = """<!doctype html><html><head><title> A  page </title><style>p{}</style>
<script>document.write("evil otter")</script></head><body>
<nav>menu</nav><h1>One</h1><p>first <b>bold</b>
line<br>and second</p><p>other</p>
<h2>Two &amp; a half</h2><ul><li>a<li>b</ul><pre>code
  here</pre>
<div hidden>unseen<div>deep</div></div><p aria-hidden="true">unseen</p>
<p style="color:red; display : none">unseen</p>
<span style="font-size:0">unseen</span><noscript>unseen</noscript><template>unseen</template>
<!-- unseen --><svg><title>unseen</title></svg><iframe src="http://x/">unseen</iframe>
<h3>Three</h3>end</body></html>"""


def test_html() -> None:
    found = page(HTML, "html", "a.html")
    assert found.title == "A page"
    assert headings(found) == [
        ("One", "first bold line\nand second\n\nother"),
        ("One > Two & a half", "a\nb\n\ncode\n  here"),
        ("One > Two & a half > Three", "end"),
    ]
    assert found.text.startswith("One\nfirst bold line")
    assert "unseen" not in found.text
    assert "otter" not in found.text


def test_html_says_its_encoding() -> None:
    text = '<meta charset="windows-1251"><title>Привет</title>мир'
    assert page(text.encode("cp1251"), "html").title == "Привет"
    # A codec that makes another text of what a person sees is not obeyed.
    assert "+ADw-" in page(b'<meta charset="utf-7"><p>+ADw-script+AD4-', "html").text


@pytest.mark.parametrize(
    "content",
    [
        "<div>" * 400_000 + "x", "<b>" * 300_000 + "x", "<table><tr><td>" * 100_000 + "x", "<!--" * 300_000,
        "<a " + "x=1 " * 300_000 + ">x", "<script>" * 300_000, "&" * 1_000_000, "<" * 1_000_000, "",
        "<p>" * 400_000, "\x00<p>x", "<h1>" * 100_000,
    ],
    ids=range(12),
)  # fmt: skip
def test_hostile_html_takes_no_time(content: str) -> None:
    started = time.monotonic()
    try:
        page(content, "html")
    except ReadingRefused:
        assert "\x00" in content
    assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "content",
    [
        ">" * 200_000, "- " * 100_000, "[" * 500_000, "*" * 500_000, "`" * 500_000, "# x\n" * 50_000,
        "|a" * 200_000, "\n" * 1_000_000, "<!--" * 200_000, "x " * 500_000, "    " * 200_000, "1. " * 100_000,
    ],
    ids=range(12),
)  # fmt: skip
def test_hostile_markdown_takes_no_time(content: str) -> None:
    started = time.monotonic()
    page(content)
    assert time.monotonic() - started < 10


def test_passages_are_short_and_lose_nothing() -> None:
    paragraphs = [f"Paragraph {n} " + "word " * (n * 37 % 700) for n in range(40)]
    found = page("# T\n\n" + "\n\n".join(paragraphs) + "\n\n" + "y" * 5000)
    assert max(len(p.text) for p in found.passages) <= LONGEST
    assert [p.ordinal for p in found.passages] == list(range(len(found.passages)))
    assert (
        " ".join(" ".join(p.text for p in found.passages).split()).replace(" ", "")
        == "".join("".join(paragraphs).split()) + "y" * 5000
    )


def test_kinds() -> None:
    names = {"a.md": "markdown", "a.MARKDOWN": "markdown", "b/c.htm": "html", "x.txt": "text", "x.rst": None}
    assert {name: kind_of(name) for name in names} == names
    assert kind_of(".md") is None
