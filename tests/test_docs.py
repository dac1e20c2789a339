"""The documentation: relative links point to files and headings, README.md is short, pages begin with a title."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Without pyproject.toml, the tests run beside an installed package. With it, a missing page is an error.
needs_project = pytest.mark.skipif(not (ROOT / "pyproject.toml").is_file(), reason="the package without its project")
NAMED = (
    "README.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "CHANGELOG.md",
    "benchmarks/README.md",
    "benchmarks/likelihood/README.md",
)
GUIDES = ("README", "bench", "figures", "files", "format", "how-it-works", "install", "models", "python",
          "reference", "samples-and-tokens", "training")  # fmt: skip
LONGEST_README = 200  # lines

FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,}).*?^ {0,3}\1[`~]*[ \t]*$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
INLINE = re.compile(r"\]\(\s*<?([^()\s<>]+)>?(?:\s+[\"'(][^)]*)?\)")
REFERENCE = re.compile(r"^ {0,3}\[[^\]]+\]:\s*<?([^\s<>]+)", re.MULTILINE)
HTML = re.compile(r"<(?:a|img|source)\b[^>]*?\s(?:href|src)=[\"']([^\"']+)", re.IGNORECASE)
HEADING = re.compile(r"^ {0,3}#{1,6}[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*$", re.MULTILINE)
NAMED_ANCHOR = re.compile(r"<a\s[^>]*?(?:id|name)=[\"']([^\"']+)", re.IGNORECASE)
ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)  # a scheme, such as https: or mailto:


def pages(root: Path = ROOT) -> list[Path]:
    """Every page whose links are checked: those with a fixed name, the guides in docs/ and the model cards."""
    found = [root / name for name in NAMED]
    found += sorted({*(root / "docs").glob("*.md"), *(root / "docs" / f"{name}.md" for name in GUIDES)})
    return found + sorted((root / "vqcodec" / "model" / "bundled").glob("*/README.md"))


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def read(page: Path) -> str:
    """The Markdown of a page without code blocks and comments."""
    return COMMENT.sub("", FENCE.sub("", page.read_text(encoding="utf-8")))


def links(text: str) -> list[str]:
    """The targets of all relative links and pictures in a page."""
    text = CODE.sub("", text)
    found = [match[1] for pattern in (INLINE, REFERENCE, HTML) for match in pattern.finditer(text)]
    return [target for target in found if not ELSEWHERE.match(target)]


def slug(heading: str) -> str:
    """GitHub's anchor of a heading: lower case, the text of links, no punctuation, a hyphen for each space."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(text: str) -> set[str]:
    """All anchors of a page. Repeated headings are numbered: -1, -2, and so on."""
    found: set[str] = set()
    for match in HEADING.finditer(text):
        anchor = first = slug(match[1])
        number = 0
        while anchor in found:
            number += 1
            anchor = f"{first}-{number}"
        found.add(anchor)
    return found | {match[1] for match in NAMED_ANCHOR.finditer(text)}


def faults(page: Path, root: Path = ROOT) -> Iterator[str]:
    """One line for each broken link of a page."""
    for target in links(read(page)):
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page.resolve()
        if not there.is_relative_to(root.resolve()):
            yield f"{target}: outside of the repository"
        elif not there.exists():
            yield f"{target}: there is no such file"
        elif anchor and (there.suffix != ".md" or anchor not in anchors(read(there))):
            yield f"{target}: there is no such heading"


def beginning(text: str) -> str | None:
    """Why a page does not begin with a title, an empty line and a line of text; None if it does."""
    title, empty, line, *_ = [*text.split("\n"), "", "", ""]
    if not re.match(r"# \S", title):
        return "the first line is not a title"
    if empty or not re.match(r"[\w*`\[(\"“]", line) or line.startswith("```"):
        return "no line of text follows the title"
    return None


@needs_project
@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_relative_links_point_to_existing_files_and_headings(page: Path) -> None:
    assert page.is_file(), f"{name_of(page)} is missing"
    assert list(faults(page)) == []


@needs_project
def test_the_pages_contain_links_to_check() -> None:
    """The test above must not pass because it found no pages or no links."""
    from vqcodec.model.store import bundled

    found = [page for page in pages() if page.is_file()]
    assert {page.parent.name for page in found if "bundled" in page.parts} == set(bundled())
    targets = [target for page in found for target in links(read(page))]
    assert len(targets) > 150
    assert sum("#" in target for target in targets) > 80


@needs_project
def test_the_readme_is_short() -> None:
    assert 20 < len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= LONGEST_README


@needs_project
@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")) or [ROOT / "docs" / "README.md"], ids=name_of)
def test_a_page_begins_with_a_title_and_a_line_of_text(page: Path) -> None:
    assert beginning(page.read_text(encoding="utf-8")) is None


@needs_project
def test_the_index_lists_every_page() -> None:
    listed = {target for target in links(read(ROOT / "docs" / "README.md")) if "/" not in target}
    assert listed == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


# Tests of the checks themselves


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("The file format", "the-file-format"),
        ("Start from `photo`", "start-from-photo"),
        ("Several processes, GPUs, memory", "several-processes-gpus-memory"),
        ("`--jobs N` & friends", "--jobs-n--friends"),
        ("The [card](a.md) of *photo*", "the-card-of-photo"),
        ("snake_case, 2² = 4", "snake_case-2²--4"),
        ("Größe", "größe"),
    ],
)
def test_anchors_are_those_of_github(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_equal_headings_are_numbered() -> None:
    assert anchors("# A\n\n## B\n\n## B ##\n\n## B\n<a id='c'></a>") == {"a", "b", "b-1", "b-2", "c"}


def test_links_in_code_are_ignored() -> None:
    text = (
        '[a](a.md) ![b](b.png) [two\nlines](c.md#d) [`code`](e.py) [t](f.md "title") [![g](g.svg)](h.md)\n'
        "[i]: i.md\n<img src='j.png'> [far](https://example.org/k.md) [mail](mailto:l@example.org) `[m](m.md)`"
    )
    expected = ["a.md", "b.png", "c.md#d", "e.py", "f.md", "g.svg", "h.md", "i.md", "j.png"]
    assert links(text) == expected


def test_broken_links_are_found(tmp_path: Path) -> None:
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# Title\n\n```\n# no heading\n```\n\n## Here\n", encoding="utf-8")
    (tmp_path / "data.json").write_text("{}", encoding="utf-8")
    page.write_text(
        "# Page\n\n[x](other.md) [x](other.md#here) [x](#page) [x](data.json)\n"
        "[x](gone.md) [x](other.md#gone) [x](#gone) [x](other.md#no-heading) [x](data.json#here) [x](../up.md)\n"
        "```\n[x](code.md)\n```\n",
        encoding="utf-8",
    )
    found = list(faults(page, tmp_path))
    assert [line.partition(":")[0] for line in found] == [
        "gone.md", "other.md#gone", "#gone", "other.md#no-heading", "data.json#here", "../up.md",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "sound"),
    [
        ("# Title\n\nFor everyone.\n", True),
        ("# Title\nFor everyone.\n", False),
        ("For everyone.\n", False),
        ("# Title\n\n## Heading\n", False),
        ("# Title\n\n| a |\n", False),
        ("# Title\n\n```\ncode\n```\n", False),
        ("# Title\n", False),
        ("", False),
    ],
)
def test_pages_need_a_title_and_a_line_of_text(text: str, sound: bool) -> None:
    assert (beginning(text) is None) == sound
