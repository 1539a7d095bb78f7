"""The try-it page for everybody: small screens, dark mode, large text, no motion, the keyboard, any script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import ActionChains, Keys

from tests.support.page import OTHER_LABELS, Page, needs_chromium, photo_of, strange_photo
from tests.support.processes import ROOT
from tests.support.serving import Serving

pytestmark = needs_chromium
AXE = ROOT / "node_modules/axe-core/axe.min.js"
VIOLATIONS = """
const done = arguments[arguments.length - 1];
axe.run().then(({ violations }) => done(violations.map(({ id, nodes }) => `${id}: ${nodes.map((each) => each.html)}`)));
"""
BEYOND = """
const beyond = [];
for (const each of document.querySelectorAll("body *")) {
  const { right, left, width, height } = each.getBoundingClientRect();
  if (!width || !height || each.closest("#strip, .said, .button input, datalist")) continue;
  if (right > innerWidth + 1 || left < -1) beyond.push(each.outerHTML.slice(0, 80));
}
return beyond;
"""
"""What reaches beyond the window; the list of thumbnails scrolls, and what only a screen reader gets has no place."""
COLUMN = [(360, 740), (1280, 800)]


def answered(page: Page, url: str, photo: Path) -> None:
    page.open(url)
    page.until(lambda: page.part("version").text.endswith("v1"), "what serves")
    page.choose(photo)
    page.until(lambda: page.part("label").text, "an answer")


def fits(page: Page) -> None:
    assert page.run(BEYOND) == []
    assert page.run("return document.documentElement.scrollWidth <= innerWidth"), "it scrolls sideways"


@pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not installed (make check-web installs it)")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(page: Page, server: Serving, tmp_path: Path, scheme: str) -> None:
    found: dict[str, Any] = {}

    def look(state: str) -> None:
        page.run(AXE.read_text(encoding="utf-8"))
        found[state] = page.browser.execute_async_script(VIOLATIONS)  # type: ignore[no-untyped-call]

    page.emulate(prefers_color_scheme=scheme, prefers_reduced_motion="reduce")
    page.open(server.url)
    page.until(lambda: len(page.all(".sample img")) == 3, "three samples")
    look("arrival")
    (tmp_path / "notes.txt").write_text("no photo")
    page.choose(photo_of("red", tmp_path / "red.png"), strange_photo(tmp_path / "odd.png"), tmp_path / "notes.txt")
    page.shows("detail", "notes.txt")
    look("an answer, and a problem")
    page.all("#modes input")[2].click()
    page.part("wrong").click()
    look("a correction")
    page.all(".thumbnail")[1].click()
    page.shows("label", "I don")
    look("not known")
    for opened in ("code", "help"):
        page.part(opened).click()
        look(opened)
        page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert not {state: violations for state, violations in found.items() if violations}
    assert len(found) == 6


def test_a_phone_has_the_answer_above_the_fold(page: Page, server: Serving, red: Path) -> None:
    page.resize(360, 740)
    answered(page, server.url, red)
    fits(page)
    page.until(lambda: page.run("return document.getElementById('shown').complete"), "the photo")
    for name in ("label", "sure", "shown", "overlay"):
        rect = page.run("return document.getElementById(arguments[0]).getBoundingClientRect().toJSON()", name)
        assert 0 <= rect["top"] < rect["bottom"] <= 740, name


@pytest.mark.parametrize(("width", "height"), COLUMN)
def test_text_of_twice_the_size_fits(page: Page, server: Serving, red: Path, width: int, height: int) -> None:
    page.resize(width, height)
    page.open(server.url)
    page.shows("knows", "It knows 4 labels")
    page.run("document.documentElement.style.fontSize = '200%'")
    fits(page)
    page.choose(red)
    page.shows("label", "red")
    page.part("wrong").click()
    fits(page)
    for opened in ("code", "help"):
        page.part(opened).click()
        fits(page)
        page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)


@pytest.mark.parametrize(("width", "height"), COLUMN)
def test_labels_that_are_long_or_written_from_the_right(
    page: Page, server: Serving, tmp_path: Path, width: int, height: int
) -> None:
    long, arabic = (label.replace("_", " ") for label in OTHER_LABELS[:2])
    page.resize(width, height)
    answered(page, f"{server.url}/?model=words", photo_of("green", tmp_path / "green.png"))
    assert page.part("label").text == arabic
    for element in (page.part("label"), page.all("#predictions .name")[0]):
        assert element.value_of_css_property("direction") == "rtl"
    fits(page)
    page.choose(photo_of("blue", tmp_path / "blue.png"))
    page.shows("label", long)
    assert page.part("label").value_of_css_property("direction") == "ltr"
    page.part("wrong").click()
    fits(page)


def test_nothing_moves_where_that_is_asked(page: Page, server: Serving, red: Path) -> None:
    page.emulate(prefers_reduced_motion="reduce")
    answered(page, server.url, red)
    page.all("#modes input")[2].click()
    opacity = "return document.getElementById('overlay').style.opacity"
    turned = """
    const done = arguments[arguments.length - 1], overlay = document.getElementById("overlay");
    new MutationObserver(() => done("it moves")).observe(overlay, { attributes: true });
    setTimeout(() => done("still"), 1200);
    """
    assert page.browser.execute_async_script(turned) == "still"  # type: ignore[no-untyped-call]
    assert page.part("swap").text == "Show the photo alone"
    page.part("swap").click()
    assert (page.run(opacity), page.part("swap").text) == ("0", "Show the heatmap")
    style = "return getComputedStyle(arguments[0], arguments[1]).animationName"
    page.run("document.getElementById('strip').innerHTML = '<button class=\"thumbnail running\">'")
    assert page.run(style, page.all(".thumbnail")[0], "::after") == "none"


def test_the_keyboard_alone_gets_from_a_sample_to_a_correction(page: Page, server: Serving) -> None:
    page.open(server.url)
    page.until(lambda: len(page.all(".sample img")) == 3, "three samples")

    def tab_to(selector: str) -> None:
        for _ in range(40):
            ActionChains(page.browser).send_keys(Keys.TAB).perform()
            if page.run("return document.activeElement.matches(arguments[0])", selector):
                outline = page.run("return getComputedStyle(document.activeElement).outlineStyle")
                assert outline == "solid", f"{selector}: where the keyboard is does not show"
                return
        raise AssertionError(f"the tab key does not reach {selector}")

    tab_to(".sample")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.shows("label", "blue")
    # The answer has the focus, so that a screen reader tells of it; it is not told once more.
    assert page.run("return document.activeElement.id") == "label"
    assert page.run("return document.getElementById(document.activeElement.ariaDescribedByElements[0].id).textContent")
    assert page.part("status").get_attribute("textContent") == ""
    tab_to("#predictions [aria-pressed=false]")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.until(lambda: "blue" not in page.part("caption").text, "another heatmap")
    assert page.run("return document.activeElement.getAttribute('aria-pressed')") == "true"
    # A screen reader is told of it, and where it is said nothing covers the page.
    assert page.part("status").get_attribute("textContent").startswith("The heatmap now shows what speaks for ")
    tab_to("#wrong")
    page.browser.switch_to.active_element.send_keys(Keys.ENTER)
    page.shows("correction", "What is it really?")
    assert page.run("return document.activeElement.closest('#correction') !== null")
