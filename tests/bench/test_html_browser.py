"""The page of a benchmark in a real browser: rendering, and control by mouse, touch and keyboard.

Needs Chromium, its driver and selenium (extra `browser`; Debian: chromium, chromium-driver); skipped without.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import synthetic
from example_results import CODECS, HOSTILE, example

from vqcodec.bench import compare_html
from vqcodec.bench.compare import Input, compare
from vqcodec.bench.html import to_html
from vqcodec.picture.picture import Picture

pytest.importorskip("selenium")
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium with its driver"),
]

POINTS = sum(map(len, CODECS.values()))


class Browser:
    """A headless Chromium with the page open, and helpers to control it."""

    def __init__(self, driver: webdriver.Chrome, address: str) -> None:
        self.driver = driver
        self.address = address

    def open(self, width: int = 1200, height: int = 900, scheme: str = "light", touch: bool = False) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": touch}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        self.driver.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": touch})
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
        self.driver.get(self.address)
        self.run("document.documentElement.style.scrollBehavior = 'auto'")

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def css(self, selector: str, name: str) -> str:
        return self.one(selector).value_of_css_property(name)

    def keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def choose(self, group: str, value: str) -> None:
        self.run("arguments[0].click()", self.one(f"#{group} input[value='{value}']"))

    def see(self, selector: str) -> WebElement:
        """The element, in the middle of the window."""
        element = self.one(selector)
        self.run("arguments[0].scrollIntoView({block: 'center'})", element)
        return element

    def split(self) -> int:
        """The position of the divider in percent. Checks that its position on the screen agrees."""
        value = int(self.one("#handle").get_attribute("aria-valuenow") or "")
        place = self.run(
            "const s = document.getElementById('stage').getBoundingClientRect();"
            "const h = document.getElementById('handle').getBoundingClientRect();"
            "return 100 * (h.x + h.width / 2 - s.x) / s.width"
        )
        assert place == pytest.approx(value, abs=1)
        return value

    def zoom(self) -> float:
        """The zoom factor, relative to the whole picture."""
        transform = self.css("#pane-left img", "transform")
        assert transform == self.css("#pane-right img", "transform"), "both sides move together"
        return float(transform.removeprefix("matrix(").split(",")[0])

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    from selenium.webdriver.chrome.service import Service

    folder = tmp_path_factory.mktemp("browser")
    page = folder / "report.html"
    page.write_text(to_html(example()), encoding="utf-8")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--user-data-dir={folder / 'user'}"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield Browser(driver, page.as_uri())
    driver.quit()


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The page, newly opened in light mode at 1200 x 900 pixels. Afterwards, the console must be empty."""
    chromium.open()
    yield chromium
    assert chromium.errors() == []


def test_curves_are_drawn(browser: Browser) -> None:
    browser.choose("measure", "psnr")
    assert len(browser.all("#chart path.curve")) == len(CODECS) + 2
    assert len(browser.all("#chart .point")) == POINTS + 3  # the last ones are published
    (dashed,) = {line.value_of_css_property("stroke-dasharray") for line in browser.all("#chart .published path.curve")}
    assert dashed != "none"
    colours = {line.value_of_css_property("stroke") for line in browser.all("#chart path.curve")}
    assert len(colours) == len(CODECS) + 2
    assert "published, not measured" in browser.one("#chart svg").text


def test_the_legend_hides_and_shows_a_curve(browser: Browser) -> None:
    button = next(button for button in browser.all("#legend-measured button") if button.text == "jpeg")
    for pressed, press in (("false", button.click), ("true", lambda: browser.keys(Keys.ENTER))):
        press()
        assert button.get_attribute("aria-pressed") == pressed
        names = [group.get_attribute("data-codec") for group in browser.all("#chart .series")]
        assert ("jpeg" in names) == (pressed == "true")
    browser.choose("measure", "psnr")
    hide = [button for button in browser.all(".group button") if button.text == "Hide all"]
    assert len(hide) == 2
    for button in hide:
        button.click()
    assert browser.all("#chart path.curve") == []
    assert "No curve to show" in browser.one("#chart svg").text


def test_a_point_shows_its_figures_by_mouse_and_keys(browser: Browser) -> None:
    browser.choose("measure", "psnr")
    tip = browser.one("#tip")
    assert not tip.is_displayed()
    browser.see("#chart")
    ActionChains(browser.driver).move_to_element(browser.all("#chart .series[data-codec=webp] .point")[1]).perform()
    assert tip.is_displayed()
    assert tip.text.splitlines() == ["webp", "quality 22.5", "0.250 bpp · PSNR 28.10 dB"]
    box, chart = tip.rect, browser.one("#chart").rect
    assert chart["x"] <= box["x"]
    assert box["x"] + box["width"] <= chart["x"] + chart["width"] + 1
    ActionChains(browser.driver).move_to_element(browser.one("h1")).perform()
    assert not tip.is_displayed()

    browser.run("document.querySelector('#chart .point[tabindex=\"0\"]').focus()")
    assert tip.text.splitlines()[:2] == ["photo", "quality 1"]
    browser.keys(Keys.ARROW_RIGHT)
    assert tip.text.splitlines()[:2] == ["photo", "quality 2"]
    browser.keys(Keys.ARROW_DOWN)
    assert tip.text.splitlines()[:2] == ["jpeg", "quality 12.5"], "the nearest point of the next curve"
    browser.keys(Keys.ARROW_UP, Keys.ARROW_UP)
    assert "published, not measured" in tip.text
    assert len(browser.all("#chart .point[tabindex='0']")) == 1, "one stop of the tab key"
    browser.keys(Keys.ESCAPE)
    assert not tip.is_displayed()


def test_axes_and_measures_can_be_chosen(browser: Browser) -> None:
    def places() -> list[str | None]:
        return [point.get_attribute("transform") for point in browser.all("#chart .series[data-codec=photo] .point")]

    seen = [places()]
    assert not browser.one("#similarity-field").is_displayed()
    assert "SSIMULACRA2" in browser.one("#chart svg").text
    for group, value, title in (
        ("scale", "linear", "SSIMULACRA2"),
        ("measure", "psnr", "PSNR, dB"),
        ("measure", "ms_ssim", "MS-SSIM, dB"),
        ("similarity", "raw", "MS-SSIM"),
        ("measure", "psnr_y", "PSNR of luma, dB"),
        ("measure", "butteraugli_max", "Butteraugli maximum, axis reversed: lower is better"),
    ):
        browser.choose(group, value)
        assert places() not in seen
        assert title in browser.one("#chart svg").text
        seen.append(places())
    browser.choose("measure", "psnr")
    browser.one("#scope").send_keys(HOSTILE[:4])
    assert len(browser.all("#chart path.curve")) == len(CODECS), "one picture: no published means"


@pytest.mark.parametrize("measure", ["ssimulacra2", "butteraugli_3norm"])
def test_up_is_better_by_every_measure(browser: Browser, measure: str) -> None:
    browser.choose("measure", measure)
    points = browser.all("#chart .series[data-codec=photo] .point")
    heights = [float((point.get_attribute("transform") or "").split(")")[0].split()[1]) for point in points]
    assert heights == sorted(heights, reverse=True), "a better picture is drawn further up"
    assert len(set(heights)) == 3


def test_the_legend_has_the_curves_of_the_measure(browser: Browser) -> None:
    def offered() -> list[str]:
        return [b.text for b in browser.all(".legend > button") if b.is_displayed()]

    assert offered() == list(CODECS)
    assert not browser.one("#legend-published").is_displayed()
    browser.choose("measure", "ms_ssim")
    assert offered() == [*CODECS, "webp (published)"]
    browser.choose("measure", "psnr")
    assert offered() == [*CODECS, "Far <b>better", "webp (published)"]


def test_tables_sort_by_mouse_and_keys(browser: Browser) -> None:
    def column(index: int) -> list[str]:
        return [line.find_elements(By.CSS_SELECTOR, "th, td")[index].text for line in browser.all(f"{table} tbody tr")]

    table = "#means-over-pictures table"
    before = column(0)
    heading = browser.all(f"{table} thead th")[3]
    heading.find_element(By.TAG_NAME, "button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column(3) == sorted(column(3), key=float)
    assert column(0) != before
    browser.keys(Keys.ENTER)
    assert heading.get_attribute("aria-sort") == "descending"
    assert column(3) == sorted(column(3), key=float, reverse=True)
    gain = browser.all(f"{table} thead th button")[6]
    for _ in range(2):
        gain.click()
        assert column(6)[3:] == ["–"] * (POINTS - 3), "gaps stay last"


def test_the_divider_moves_by_mouse_and_keys(browser: Browser) -> None:
    handle = browser.see("#handle")
    width = browser.one("#stage").rect["width"]
    assert browser.split() == 50
    ActionChains(browser.driver).drag_and_drop_by_offset(handle, -round(width / 4), 0).perform()
    assert browser.split() == pytest.approx(25, abs=1)
    shown = browser.css("#pane-right", "clip-path").rpartition(" ")[2]  # inset(0px 0px 0px 25%)
    assert float(shown.rstrip("%)")) == pytest.approx(browser.split(), abs=0.5)
    before = browser.split()
    browser.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert browser.split() == before + 1
    browser.keys(Keys.PAGE_UP)
    assert browser.split() == before + 11
    browser.keys(Keys.HOME)
    assert browser.split() == 0
    browser.keys(Keys.END, Keys.ARROW_RIGHT)
    assert browser.split() == 100
    assert "photo" in (handle.get_attribute("aria-valuetext") or "")
    ActionChains(browser.driver).move_to_element_with_offset(browser.one("#stage"), 0, 60).click().perform()
    assert browser.split() == 50, "a click moves it too"


def test_zoom_and_pan_by_keys_wheel_and_mouse(browser: Browser) -> None:
    stage = browser.see("#stage")
    ActionChains(browser.driver).scroll_from_origin(_origin(stage), 0, -100).perform()
    assert browser.zoom() == 1, "the wheel scrolls the page until the viewer has the focus"
    browser.see("#stage")
    browser.run("document.getElementById('handle').focus({preventScroll: true})")
    browser.keys("+", "+")
    assert browser.zoom() == pytest.approx(2.25)
    assert browser.css("#pane-left img", "image-rendering") == "pixelated"

    def left() -> float:
        return float(browser.css("#pane-left img", "transform").split(",")[4])

    before = left()
    ActionChains(browser.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_RIGHT).key_up(Keys.SHIFT).perform()
    assert left() < before
    before = left()
    drag = ActionChains(browser.driver).move_to_element_with_offset(stage, 100, 60).click_and_hold()
    drag.move_by_offset(40, 0).release().perform()
    assert left() == pytest.approx(before + 40, abs=1)
    assert browser.split() == 50, "a zoomed picture is dragged, the divider stays"
    before = browser.zoom()
    ActionChains(browser.driver).scroll_from_origin(_origin(stage), 0, -100).perform()
    assert browser.zoom() > before
    browser.keys("0")
    assert browser.zoom() == 1
    assert browser.css("#pane-left img", "image-rendering") == "auto"
    browser.one("#zoom-in").click()
    assert browser.zoom() == 1.5
    for _ in range(20):
        browser.one("#zoom-in").click()
    assert browser.zoom() * stage.rect["width"] / 96 == pytest.approx(max(16, 4 * stage.rect["width"] / 96), rel=0.01)
    browser.one("#zoom-fit").click()
    assert browser.zoom() == 1
    browser.one("#zoom-exact").click()
    assert browser.zoom() * stage.rect["width"] == pytest.approx(96, abs=1), "smaller than the stage, so in its middle"
    assert left() == pytest.approx((stage.rect["width"] - 96) / 2, abs=1)
    browser.one("#zoom-in").click()
    assert browser.zoom() * stage.rect["width"] == pytest.approx(144, abs=1)


def _origin(element: WebElement) -> Any:
    from selenium.webdriver.common.actions.wheel_input import ScrollOrigin

    return ScrollOrigin.from_element(element)


def test_any_two_sides_of_any_picture(browser: Browser) -> None:
    def facts(side: str) -> list[str]:
        return browser.one(f"#facts-{side}").text.splitlines()

    assert facts("left")[0] == "photo, quality 1"
    assert facts("right")[0] == "webp, quality 12.5"
    assert "154 bytes" in facts("left")[1]
    assert "0.200 bpp" in facts("left")[1]
    browser.one("#right").send_keys("original")
    assert facts("right") == ["original", "96 × 64 pixels"]
    browser.one("#swap").click()
    assert facts("left")[0] == "original"
    before = browser.one("#pane-left img").get_attribute("src")
    browser.one("#picture").send_keys(HOSTILE[:4])
    assert facts("left")[0] == "original", "the choice stays when the picture changes"
    image = browser.one("#pane-left img")
    assert image.get_attribute("src") != before
    assert image.get_attribute("alt") == f"{HOSTILE}, original"
    assert browser.run("return arguments[0].decode().then(() => arguments[0].naturalWidth)", image) == 96
    assert len(browser.all("#stage img")) == len(browser.all("img")) == 2, "no name became an element"


def test_the_difference_of_two_sides(browser: Browser) -> None:
    browser.choose("mode", "difference")
    browser.see("#stage")
    assert browser.css("#stage", "filter") == "brightness(4)"
    assert browser.css("#pane-right", "mix-blend-mode") == "difference"
    assert browser.css("#pane-right", "clip-path") == "none"
    browser.run("document.getElementById('stage').focus()")
    browser.keys("+")
    assert browser.zoom() == 1.5
    browser.choose("mode", "slider")
    assert browser.one("#handle").is_displayed()
    assert browser.one("#stage").get_attribute("tabindex") is None


@pytest.mark.parametrize("width", [320, 360, 768])
def test_nothing_but_tables_is_wider_than_the_window(browser: Browser, width: int) -> None:
    browser.open(width, 740, touch=True)
    for button in browser.all("summary"):
        browser.run("arguments[0].click()", button)
    assert browser.run("return [document.documentElement.scrollWidth, window.innerWidth]") == [width, width]
    assert browser.one("#chart svg").rect["width"] <= width
    assert (
        browser.run("const b = document.querySelector('.scroll'); return b.scrollWidth > b.clientWidth") or width > 700
    )


def test_fingers(browser: Browser) -> None:
    browser.open(360, 740, touch=True)
    browser.see("#stage")
    box = browser.run(
        "const b = document.getElementById('stage').getBoundingClientRect(); return [b.x, b.y, b.width, b.height]"
    )
    x, y = box[0] + box[2] / 2, box[1] + box[3] / 4

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": px, "y": py, "id": index} for index, (px, py) in enumerate(places)]
        browser.driver.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (x, y))
    for step in range(1, 6):
        touch("touchMove", (x - 12 * step, y))
    touch("touchEnd")
    assert browser.split() == pytest.approx(50 - 6000 / box[2], abs=3)
    touch("touchStart", (x - 20, y), (x + 20, y))
    for step in range(1, 6):
        touch("touchMove", (x - 20 - 8 * step, y), (x + 20 + 8 * step, y))
    touch("touchEnd")
    assert browser.zoom() == pytest.approx(3, rel=0.1)

    point = browser.see("#chart .series[data-codec=photo] .point .shape")
    place = browser.run(
        "const b = arguments[0].getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]", point
    )
    touch("touchStart", (place[0], place[1]))
    touch("touchEnd")
    assert browser.one("#tip").is_displayed()


def test_dark_mode(browser: Browser) -> None:
    def brightness(selector: str, name: str) -> float:
        numbers = browser.css(selector, name).partition("(")[2].rstrip(")").split(",")[:3]
        return sum(map(float, numbers)) / 3

    light = {curve: curve.value_of_css_property("stroke") for curve in browser.all("#chart path.curve")}
    assert brightness("body", "background-color") > 230 > 60 > brightness("body", "color")
    browser.open(scheme="dark")
    assert brightness("body", "background-color") < 40 < 200 < brightness("body", "color")
    dark = [curve.value_of_css_property("stroke") for curve in browser.all("#chart path.curve")]
    assert not set(dark) & set(light.values())
    for name, (text, ground) in {"h1": ("h1", "body"), "note": (".note", "body"), "cell": ("td", ".scroll")}.items():
        assert brightness(text, "color") - brightness(ground, "background-color") > 120, name


def test_the_page_of_compare(browser: Browser, tmp_path: Path) -> None:
    pixels = synthetic(64, 96)
    clear = Picture(255 - pixels, "RGB", np.full((64, 96), 90, np.uint8))
    page = tmp_path / "compare.html"
    for after, scenes in ((Picture(255 - pixels, "RGB"), 1), (clear, 2)):
        found = compare(Input("a.png", "PNG", 10, Picture(pixels, "RGB")), Input("b.vq", "VQ", 5, after))
        page.write_text(compare_html.to_html(found), encoding="utf-8")
        browser.driver.get(page.as_uri())
        assert browser.one("#picture-field").is_displayed() == (scenes == 2)
        assert [element.text.splitlines()[0] for element in browser.all(".facts > div")] == ["A: a.png", "B: b.vq"]
        assert "PSNR of luma" in browser.one("#facts-right").text
        image = browser.one("#pane-right img")
        assert browser.run("return arguments[0].decode().then(() => arguments[0].naturalWidth)", image) == 96
        browser.see("#handle").click()
        browser.keys(Keys.HOME)
        assert browser.split() == 0


def test_the_page_works_without_pictures_or_curves(browser: Browser, tmp_path: Path) -> None:
    from vqcodec.bench.results import Results, Row

    page = tmp_path / "empty.html"
    page.write_text(to_html(Results((Row("a.png", "photo", 1, error="broken"),), ())), encoding="utf-8")
    browser.driver.get(page.as_uri())
    assert browser.all("#curves, #viewer") == []
    assert browser.one("#failures td:last-child").text == "broken"
