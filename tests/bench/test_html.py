"""The HTML page of a benchmark, as text: well-formed, self-contained, complete, and safe with hostile file names."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import math
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from itertools import combinations, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from example_results import CODECS, HOSTILE, example

from vqcodec.bench.html import to_html
from vqcodec.bench.match import Match
from vqcodec.bench.results import Results, Row
from vqcodec.picture.measures import MEASURES

VOID = {"meta", "link", "input", "br", "img"}


@dataclass
class Element:
    """An element with its text, including that of nested elements."""

    name: str
    attributes: dict[str, str | None]
    text: str = ""


@dataclass
class Page(HTMLParser):
    """Parses a page. Fails if tags are not nested correctly."""

    elements: list[Element] = field(default_factory=list)
    open: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__(convert_charrefs=True)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"<{tag}> has an attribute twice"
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(self.elements[-1])

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> without a start"
        assert self.open.pop().name == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element.text += data

    def all(self, name: str) -> list[Element]:
        return [element for element in self.elements if element.name == name]

    def by_id(self, name: str) -> Element:
        (found,) = [element for element in self.elements if element.attributes.get("id") == name]
        return found

    def data(self, name: str) -> Any:
        return json.loads(self.by_id(name).text)


def parse(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == [], "not everything is closed"
    return page


@pytest.fixture(scope="module")
def text() -> str:
    return to_html(example())


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return parse(text)


def test_the_page_is_well_formed(page: Page, text: str) -> None:
    assert text.startswith('<!DOCTYPE html>\n<html lang="en">')
    assert [element.text for element in page.all("title")] == ["4 image codecs on 3 pictures"]
    ids = [element.attributes["id"] for element in page.elements if "id" in element.attributes]
    assert len(ids) == len(set(ids))
    levels = [int(element.name[1]) for element in page.elements if re.fullmatch("h[1-6]", element.name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for element in page.elements:
        for key in ("aria-labelledby", "for"):
            for name in (element.attributes.get(key) or "").split():
                assert name in ids, f"{key}={name}"
    links = [element.attributes["href"] for element in page.all("a")]
    assert all((link or "").removeprefix("#") in ids for link in links)


def test_nothing_is_loaded_from_anywhere(page: Page, text: str) -> None:
    for element in page.elements:
        for key in ("src", "href", "srcset", "action", "data", "poster"):
            assert (element.attributes.get(key) or "#").startswith(("#", "data:")), element
        assert not any(key.startswith("on") or key == "style" for key in element.attributes), element
    style, script = page.all("style")[0].text, page.all("script")[-1].text
    assert "@import" not in style
    assert "url(" not in style
    assert re.findall(r"https?://[^\"']*", text) == ["http://www.w3.org/2000/svg"]  # the name of SVG, not a place
    assert not re.search(r"\b(fetch|XMLHttpRequest|WebSocket|import|eval|innerHTML|insertAdjacentHTML)\b", script)


def test_the_policy_allows_this_style_this_script_and_pictures_inside(page: Page) -> None:
    (policy,) = [meta.attributes["content"] or "" for meta in page.all("meta") if "http-equiv" in meta.attributes]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert (rules["default-src"], rules["img-src"]) == ("'none'", "data:")

    def source(element: Element) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(element.text.encode()).digest()).decode()}'"

    assert rules["style-src"] == source(page.all("style")[0])
    (script,) = [element for element in page.all("script") if "type" not in element.attributes]
    assert rules["script-src"] == source(script)


def test_names_and_errors_are_inserted_as_text(page: Page, text: str) -> None:
    assert "<script>alert" not in text
    assert "<img" not in text
    assert page.all("img") == page.all("b") == page.all("i") == []
    cells = [element.text for element in page.elements if element.name in {"td", "th", "dd"}]
    for name in (HOSTILE, "not a picture: </script><b>", "a&b<i>", f"vqcodec bench {HOSTILE}"):
        assert name in cells
    assert HOSTILE in page.data("pictures-data")
    assert html.escape(HOSTILE) in text


def test_a_name_with_invalid_characters() -> None:
    name = "a\udcff\x00\x1b[31m\u202e\ufffe\r\n.png"
    broken = replace(example(), rows=(Row(name, "photo", 1, error=name),), pictures={})
    page = parse(to_html(broken).encode("utf-8").decode("utf-8"))
    assert page.by_id("failures").text.count("a\ufffd\ufffd\ufffd[31m\u202e\ufffd") == 2


def test_every_codec_and_every_point_is_there(page: Page) -> None:
    data = page.data("curves-data")
    names = [codec["name"] for codec in data["codecs"]]
    assert names == [*CODECS, "Far <b>better", "webp (published)"]
    means, *pictures = data["scopes"]
    assert [curve["name"] for curve in means["curves"]] == names
    assert [curve["published"] for curve in means["curves"]] == [False] * 4 + [True] * 2
    assert [len(curve["points"]) for curve in means["curves"]] == [3, 3, 4, 1, 2, 1]
    assert [scope["name"] for scope in pictures] == ["kodim01.png", HOSTILE]
    assert pictures[0]["curves"][0]["points"][0]["psnr"] is None  # infinite
    for curve in means["curves"]:
        rates = [point["bpp"] for point in curve["points"]]
        assert rates == sorted(rates)
    assert [measure["key"] for measure in data["measures"]] == [measure.name for measure in MEASURES]
    assert [m["key"] for m in data["measures"] if not m["rising"]] == ["butteraugli_3norm", "butteraugli_max"]
    assert means["curves"][4]["points"][0]["ssimulacra2"] is None, "published points have PSNR and MS-SSIM only"


def rows_of(page: Page, section: str) -> list[list[str]]:
    """The texts of the cells of a section's table."""
    start = page.elements.index(page.by_id(section)) + 1
    rows: list[list[str]] = []
    for element in page.elements[start:]:
        if element.name == "section":
            break
        if element.name == "caption":
            rows.append([element.text])
        if element.name == "tr":
            rows.append([])
        if element.name in {"td", "th"}:
            rows[-1].append(element.text)
    return rows


def test_tables_hold_the_figures(page: Page) -> None:
    _, head, *lines = rows_of(page, "means-over-pictures")
    assert head[:8] == ["codec", "quality", "bytes", "bpp", "bits/dim", "ratio", "gain over naive", "SSIMULACRA2"]
    assert head[8:13] == ["Butteraugli 3-norm", "Butteraugli maximum", "MS-SSIM", "PSNR of luma, dB", "PSNR, dB"]
    assert "peak MiB" not in head, "a column without figures"
    assert len(lines) == sum(map(len, CODECS.values()))
    assert lines[0][:7] == ["photo", "1", "154", "0.200", "0.0667", "120.0", "8.76"]
    assert lines[3][:7] == ["jpeg", "12.5", "230", "0.300", "0.1000", "80.0", "–"]
    assert rows_of(page, "every-measurement")[2][13] == "∞"
    assert rows_of(page, "failures")[2] == ["broken.png", "photo", "1", "not a picture: </script><b>"]
    assert "61.5 of 256 · 40.0 of 64" in rows_of(page, "where-the-bits-go")[2]
    assert all(len(line) == len(head) for line in lines)


def test_there_is_a_table_of_bits_for_every_measure(page: Page) -> None:
    rows = rows_of(page, "bits-at-equal-quality")
    starts = [index for index, row in enumerate(rows) if len(row) == 1]
    parts = {rows[a][0].removeprefix("Bits at equal "): rows[a + 1 : b] for a, b in pairwise([*starts, None])}
    assert list(parts) == ["SSIMULACRA2", "Butteraugli 3-norm", "MS-SSIM", "PSNR"]
    for head, *lines in parts.values():
        assert head[:4] == ["codec", "bits, equal quality", "over", "overlap"]
        assert all(len(line) == len(head) for line in lines)
    assert parts["SSIMULACRA2"][1][:5] == ["photo", "−12.5 %", "30.00 to 60.00", "80 %", "+4.25"]
    assert parts["Butteraugli 3-norm"][1][2] == "1.250 to 3.500", "as distances, not negated"
    assert parts["Butteraugli 3-norm"][1][4] == "−0.125"
    assert parts["MS-SSIM"][1][2:5] == ["10.50 to 14.00 dB", "80 %", "+0.50 dB"]
    assert parts["PSNR"][1][:4] == ["photo", "−20.5 %", "28.00 to 33.00 dB", "80 %"]
    assert parts["PSNR"][2][4] == "−1.40 dB"
    assert parts["PSNR"][3][1:3] == ["–", ""]
    assert parts["PSNR"][3][-1] == "one point only"


def test_the_viewer_contains_the_pictures_unchanged(page: Page) -> None:
    results = example()
    for index, (name, view) in enumerate(results.pictures.items()):
        block = page.data(f"picture-{index}")
        assert (block["name"], block["width"], block["height"]) == (name, view.width, view.height)
        assert [side["label"] for side in block["sides"]] == ["original", *view.shown]
        sent = [view.original, *(shown.picture for shown in view.shown.values())]
        for side, picture in zip(block["sides"], sent, strict=True):
            kind, payload = side["src"].split(",", 1)
            assert kind == "data:image/png;base64"
            assert base64.b64decode(payload) == picture
        assert block["start"] == [1, 2], "photo on the left, the anchor on the right"
    facts = page.data("picture-0")["sides"][1]["facts"]
    assert facts[1] == "0.200 bpp"
    assert [fact.rpartition(" ")[0] for fact in facts[2:5]] == ["SSIMULACRA2", "Butteraugli 3-norm", "MS-SSIM"]
    assert facts[5].startswith("PSNR ")


def test_the_same_results_give_the_same_page(text: str) -> None:
    assert to_html(example()) == text


@pytest.mark.parametrize(
    "results",
    [
        Results((), ()),
        Results((Row("a.png", "photo", 1, error="broken"),), ()),
        replace(
            example(), rows=example().rows[:1], means=(replace(example().means[0], psnr=math.inf, ms_ssim=math.nan),)
        ),
        replace(
            example(), bd=(), published=(), anatomy=(), environment={}, codecs={}, pictures={}, match=Match("bpp", 0.5)
        ),
    ],
)
def test_a_page_with_little_or_no_data(results: Results) -> None:
    page = parse(to_html(results))
    ids = [element.attributes.get("id") for element in page.elements]
    assert all((link.attributes["href"] or "").removeprefix("#") in ids for link in page.all("a"))
    if results.pictures:
        assert page.data("pictures-data")


def test_a_target_is_named() -> None:
    assert "Every file was encoded for 0.3 bpp." in to_html(replace(example(), match=Match("bpp", 0.3)))
    page = to_html(replace(example(), match=Match("ssimulacra2", 70)))
    assert "Every file was encoded for SSIMULACRA2 70." in page
    assert "each at SSIMULACRA2 70 or as near as it can" in page


# Linear RGB as seen with one type of cone missing (Machado, Oliveira and Fernandes 2009, severity 1).
SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])


def linear(colour: str) -> npt.NDArray[np.float64]:
    digits = colour.removeprefix("#")
    digits = digits if len(digits) == 6 else "".join(digit * 2 for digit in digits)
    values = np.array([int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)])
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """As in WCAG 2.2."""
    dark, light = sorted(float(LUMINANCE @ linear(colour)) for colour in (one, other))
    return (light + 0.05) / (dark + 0.05)


def cielab(rgb: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    xyz = np.array([[0.4124, 0.3576, 0.1805], LUMINANCE, [0.0193, 0.1192, 0.9505]]) @ rgb.clip(0, 1)
    f = xyz / [0.9505, 1, 1.089]
    f = np.where(f > 0.008856, np.cbrt(f), 7.787 * f + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("scheme", [0, 1])
def test_colours_have_contrast_and_are_distinguishable(page: Page, scheme: int) -> None:
    rules = re.findall(r":root \{(.*?)\}", page.all("style")[0].text, re.DOTALL)
    colours = dict(re.findall(r"--([\w-]+): (#\w+)", rules[scheme]))
    curves = [colours[f"c{index}"] for index in range(8)]
    for ground in (colours["page"], colours["card"]):
        assert all(contrast(curve, ground) >= 3 for curve in curves)
        assert all(contrast(colours[text], ground) >= 4.5 for text in ("ink", "soft", "accent"))
    assert contrast(colours["on-accent"], colours["accent"]) >= 4.5
    for sight, matrix in SIGHT.items():
        seen = [cielab(np.array(matrix) @ linear(curve)) for curve in curves]
        assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) >= 16, sight
