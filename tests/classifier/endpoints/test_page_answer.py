"""What the try-it page says of the model and of a photo, and what can be done with it; see `tests.support.page`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import ActionChains, Keys

from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from classifier.traffic.feedback import Feedback
from tests.support.page import NOTICE, Page, needs_chromium, photo_of
from tests.support.serving import MODEL, Serving, copy_store, damage, publish, serve

pytestmark = needs_chromium


@pytest.fixture(name="answered")
def answered_fixture(page: Page, server: Serving, red: Path) -> Iterator[Page]:
    """The page with the answer to a red photo."""
    page.open(server.url)
    page.shows("version", "food v1")
    page.choose(red)
    page.shows("label", "red")
    yield page


def test_on_arrival_it_says_what_serves_and_how_good_it_is(page: Page, server: Serving) -> None:
    page.open(server.url)
    page.shows("knows", "It knows 4 labels:")
    assert page.texts("#some .chip") == ["blue", "green", "grey", "red"]
    said = page.part("facts").text
    assert "food v1" in said and "serves since " in said
    assert "right on 91.0 % of 500 test photos (95 % interval: 88.2 % to 93.2 %)" in said
    assert page.part("notice").text == NOTICE
    assert page.hides("badge", "result", "cancel", "empty", "tokens", "problem")
    page.all("#facts button")[0].click()
    page.shows("dialog", "# Tells four colours apart")
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: page.hides("dialog"), "the page")


def test_many_labels_can_be_searched(page: Page, server: Serving) -> None:
    """The description is one of 101 labels that no server gave: the tiny model has four."""
    page.open(server.url)
    page.shows("knows", "It knows 4 labels:")
    assert page.hides("all-labels")
    page.browser.set_script_timeout(20)
    page.browser.execute_async_script(  # type: ignore[no-untyped-call]
        """
        const done = arguments[arguments.length - 1];
        import("./about.js").then(({ describe, serving }) => {
          const labels = Array.from({ length: 101 }, (_, index) => `dish_no_${index}`);
          describe(serving.model = { ...serving.model, labels });
          done();
        });
        """
    )
    page.shows("knows", "It knows 101 labels:")
    assert len(page.all("#some .chip")) == 8
    page.part("all-labels").click()
    page.shows("dialog", "101 of 101")
    page.all("#dialog input")[0].send_keys("No 10")
    page.shows("dialog", "2 of 101")
    assert page.texts("#dialog li") == ["dish no 10", "dish no 100"]


def test_a_canary_and_a_fallback_are_named(page: Page, page_store: Path, tmp_path: Path) -> None:
    store = copy_store(page_store, tmp_path / "store")
    registry = Registry(LocalStore(store), MODEL)
    shutil.copytree(store / MODEL / "versions/v1", tmp_path / "bundle")
    (tmp_path / "bundle/manifest.json").unlink()
    (tmp_path / "bundle/claim.json").unlink()
    manifest = json.loads((store / MODEL / "versions/v1/manifest.json").read_text())
    manifest |= {"model": None, "version": None, "created_at": "2026-02-01T12:00:00Z"}
    (tmp_path / "bundle/manifest.json").write_text(json.dumps(manifest))
    publish(store, tmp_path / "bundle", promote=False)
    registry.start_canary("v2", 100, who="kim", reason="", replay=golden.replay)
    with serve(store, tmp_path / "canary", FUNCTION_MEMORY="1024") as server:
        page.open(server.url)
        page.shows("badge", "A canary: you are among those who get this version while it is on trial.")
        assert page.part("version").text == "food v2"
    registry.promote("v2", who="kim", reason="", replay=golden.replay)
    damage(store, "v2")
    with serve(store, tmp_path / "fallback") as server:
        page.open(server.url)
        page.shows("version", "food")
        page.choose(photo_of("red", tmp_path / "red.png"))
        page.shows("label", "red")
        page.shows("badge", "v1 answers in place of v2, which is damaged.")


def test_confidence_in_words_and_photo_and_heatmap_in_three_ways(answered: Page) -> None:
    page = answered
    assert page.part("sure").text.startswith("Very sure: ")
    page.part("strength").send_keys(Keys.HOME)
    page.shows("percent", "0 %")
    assert page.part("overlay").value_of_css_property("opacity") == "0"
    page.all("#modes input")[1].click()
    shown, overlay = page.part("shown").rect, page.part("overlay").rect
    assert overlay["x"] >= shown["x"] + shown["width"] and overlay["y"] == shown["y"]
    assert page.part("overlay").value_of_css_property("opacity") == "1"
    page.all("#modes input")[2].click()
    opacity = "return document.getElementById('overlay').style.opacity"
    for expected in ("0", "1", "0"):
        page.until(lambda expected=expected: page.run(opacity) == expected, f"an opacity of {expected}")  # type: ignore[misc]
    page.part("swap").click()  # whoever takes it in hand stops it
    assert page.run(opacity) == "1"


def test_any_label_can_be_asked_about(answered: Page) -> None:
    page = answered
    page.part("other-label").send_keys("GREEN", Keys.ENTER)
    page.shows("caption", "what speaks for green")
    assert page.browser.switch_to.active_element.get_attribute("aria-label") == "Why not green?"
    first = page.part("overlay").get_attribute("src")
    page.all("#predictions button")[0].click()
    page.until(lambda: page.part("overlay").get_attribute("src") != first, "the heatmap of red")
    page.part("other-label").clear()
    page.part("other-label").send_keys("pizza", Keys.ENTER)
    page.shows("not-known", "It has no label “pizza”. Choose one of those that it offers.")
    page.part("other-label").clear()
    page.part("other-label").send_keys("Gren", Keys.ENTER)
    page.shows("not-known", "It has no label “Gren”. Did you mean “green”?")
    assert page.part("label").text == "red" and page.part("overlay").is_displayed()
    page.all("#predictions button")[1].click()
    page.until(lambda: page.hides("not-known", "problem"), "no word of it")


def test_a_correction_takes_two_taps_and_keeps_the_photo_only_with_consent(
    page: Page, page_store: Path, red: Path, tmp_path: Path
) -> None:
    store = copy_store(page_store, tmp_path / "store")
    desk = Feedback(LocalStore(store), MODEL)
    with serve(store, tmp_path / "serving") as server:
        page.open(server.url)
        page.shows("version", "food v1")
        page.choose(red)
        page.shows("label", "red")
        page.part("wrong").click()
        page.all("#correction li button")[0].click()
        page.shows("thanks", "Thank you: ")
        (case,) = desk.cases()
        assert case.correction.label in ("blue", "green", "grey") and desk.photo(case) is None
        assert case.correction.seen.label == "red" and case.correction.seen.version == "v1"
        page.part("wrong").click()
        page.part("right-label").send_keys("a brick")
        page.all("#correction form .quiet")[0].click()
        page.shows("thanks", "Thank you: a brick, with the photo.")
        (with_photo,) = [each for each in desk.cases() if each.correction.label == "a brick"]
        assert desk.photo(with_photo) == red.read_bytes()
        page.part("wrong").click()
        page.all("#correction li:last-child button")[0].click()
        page.shows("thanks", "Thank you: none of its labels.")
        assert {each.correction.label for each in desk.cases()} >= {None, "a brick"}
    with serve(store, tmp_path / "closed", FEEDBACK_LIMIT="0") as server:
        page.open(server.url)
        page.shows("version", "food v1")
        page.choose(red)
        page.shows("label", "red")
        assert page.hides("wrong")


def codes_of(page: Page) -> dict[str, str]:
    """Open "Copy as code" and return what it has, by language."""
    page.part("code").click()
    page.shows("dialog", "Exactly this request")
    codes = {}
    for choice in page.all("#dialog .choices button"):
        choice.click()
        codes[choice.text] = page.all("#dialog pre")[0].text
    return codes


def test_the_request_is_copied_as_code_that_gives_the_same_answer(answered: Page, red: Path) -> None:
    page = answered
    codes = codes_of(page)
    assert list(codes) == ["curl", "JavaScript", "Python", "Kotlin", "Swift"]
    assert all("/api/?top_k=5&gradcam=1&gradcam_size=1024&tta=0" in code for code in codes.values())
    assert all("a photo.jpg" in code for code in codes.values())
    assert '"Accept", "application/json"' in codes["Kotlin"], "Java prefers images, and would get the overlay"
    asked = subprocess.run(["bash", "-c", codes["curl"]], cwd=red.parent, capture_output=True, text=True, timeout=60)
    assert json.loads(asked.stdout)["label"] == "red", asked.stderr
    asked = subprocess.run(
        [sys.executable, "-c", codes["Python"]], cwd=red.parent, capture_output=True, text=True, timeout=60
    )
    assert asked.stdout.startswith("red "), asked.stderr
    (red.parent / "asked.mjs").write_text(codes["JavaScript"])
    if node := shutil.which("node"):
        asked = subprocess.run([node, "asked.mjs"], cwd=red.parent, capture_output=True, text=True, timeout=60)
        assert asked.stdout.startswith("red "), asked.stderr
    page.browser.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    page.all("#dialog .buttons button")[0].click()
    page.shows("dialog", "Copied.")
    read = "const done = arguments[0]; navigator.clipboard.readText().then(done, (error) => done(String(error)))"
    assert page.browser.execute_async_script(read) == codes["Swift"]  # type: ignore[no-untyped-call]


def test_the_code_of_a_sample_has_the_photo_from_the_server(page: Page, server: Serving, tmp_path: Path) -> None:
    page.open(server.url)
    page.until(lambda: len(page.all(".sample img")) == 3, "three samples")
    page.all(".sample")[1].click()
    page.shows("label", "green")
    codes = codes_of(page)
    sample = server.get("/model").json()["samples"][1]["url"]
    assert all(f"/api/{sample}" in code and "sample 2" not in code for code in codes.values())
    said = "A sample of v1: gone when another version serves."
    marks = {"curl": "#", "JavaScript": "//", "Python": "#", "Kotlin": "//", "Swift": "//"}
    assert {language: code.split("\n")[0] for language, code in codes.items()} == {
        language: f"{mark} {said}" for language, mark in marks.items()
    }
    (tmp_path / "asked.mjs").write_text(codes["JavaScript"])
    programs = {"curl": ["bash", "-c", codes["curl"]], "Python": [sys.executable, "-c", codes["Python"]]}
    if node := shutil.which("node"):
        programs["JavaScript"] = [node, "asked.mjs"]
    for language, program in programs.items():
        asked = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert "green" in asked.stdout, (language, asked.stderr)


def test_tokens_are_not_copied(answered: Page) -> None:
    page = answered
    page.browser.execute_async_script(  # type: ignore[no-untyped-call]
        """
        const done = arguments[arguments.length - 1];
        import("./api.js").then(({ session }) => { session.tokens = { Authorization: "Bearer secret" }; done(); });
        """
    )
    page.part("code").click()
    page.shows("dialog", "-H 'Authorization: Bearer ID_TOKEN'")
    assert "secret" not in page.part("dialog").text


def test_the_overlay_is_saved_as_it_is_shown(answered: Page) -> None:
    save = answered.part("save")
    assert save.get_attribute("download") == "a photo-red.jpg"
    assert save.get_attribute("href") == answered.part("overlay").get_attribute("src")
    assert str(save.get_attribute("href")).startswith("data:image/jpeg;base64,/9j/")


def test_keys_do_what_the_list_of_them_says_until_they_are_turned_off(answered: Page) -> None:
    page = answered

    def press(key: str) -> None:
        ActionChains(page.browser).send_keys(key).perform()  # to a field for files an element's own sends a path

    page.run("document.getElementById('file').focus()")  # as it is after photos were chosen
    press("?")
    page.shows("dialog", "Keyboard shortcuts")
    assert len(page.all("#dialog dt")) == len(page.all("#dialog dd")) == 12
    press(Keys.ESCAPE)
    page.until(lambda: page.hides("dialog"), "the page")
    press("2")
    page.until(lambda: "red" not in page.part("caption").text, "the heatmap of the second label")
    press("b")
    assert page.all("#modes input")[1].is_selected()
    press("f")
    assert page.all("#modes input")[2].is_selected()
    press("f")
    press("w")
    page.shows("correction", "What is it really?")
    press(Keys.ENTER)  # pressed too early, it sends nothing
    assert page.part("correction").is_displayed() and page.part("thanks").text == ""
    page.part("right-label").send_keys("w?bf")  # who writes, writes
    assert page.part("right-label").get_attribute("value") == "w?bf" and page.hides("dialog")
    page.part("wrong").click()
    page.part("help").click()
    page.all("#dialog input[type=checkbox]")[0].click()
    press(Keys.ESCAPE)
    page.until(lambda: page.hides("dialog"), "the page")
    press("w")
    assert page.hides("correction")
    press("?")
    page.shows("dialog", "Keyboard shortcuts")
