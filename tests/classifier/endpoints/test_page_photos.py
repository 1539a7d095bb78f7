"""How photos get to the try-it page, and in which order they are looked at; see `tests.support.page`."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
from pathlib import Path

import pytest
from PIL import Image
from selenium.webdriver import Keys

from tests.support.bundles import colour_photo
from tests.support.page import Page, needs_chromium, photo_of, strange_photo
from tests.support.serving import Serving, serve

pytestmark = needs_chromium
GIVE = """
const [kind, photos] = arguments;
const given = new DataTransfer();
for (const [name, base64] of photos)
  given.items.add(new File([Uint8Array.from(atob(base64), (one) => one.charCodeAt(0))], name, { type: "image/png" }));
const event = kind === "paste"
  ? new ClipboardEvent("paste", { clipboardData: given, bubbles: true })
  : new DragEvent("drop", { dataTransfer: given, bubbles: true, cancelable: true });
document.body.dispatchEvent(event);
"""
BELOW = """
const [one, other] = [...arguments].map((id) => document.getElementById(id));
return (one.compareDocumentPosition(other) & Node.DOCUMENT_POSITION_FOLLOWING) !== 0;
"""


def give(page: Page, kind: str, *labels: str) -> None:
    """Paste or drop photos, as the browser tells a page of them."""
    page.run(GIVE, kind, [(f"{label}.png", base64.b64encode(colour_photo(label)).decode()) for label in labels])


def thumbnails(page: Page) -> list[str]:
    return list(page.run("return [...document.querySelectorAll('.thumbnail')].map((each) => each.ariaLabel)"))


def test_photos_are_pasted_and_dropped(page: Page, server: Serving) -> None:
    page.open(server.url)
    page.shows("version", "food v1")
    give(page, "paste", "green")
    page.shows("label", "green")
    assert page.hides("session"), "one photo needs no list"
    give(page, "drop", "blue", "grey")
    page.shows("label", "blue")
    page.until(lambda: thumbnails(page)[-1].startswith("grey.png: grey, "), "the second of those that were dropped")
    assert re.fullmatch(r"green\.png: green, (9\d\.\d|100\.0) %", thumbnails(page)[0])
    assert page.part("label").text == "blue", "the first of those that were given stays"


def test_a_queue_longer_than_a_request_may_have_and_the_sessions_history(
    page: Page, server: Serving, tmp_path: Path
) -> None:
    labels = [("red", "green", "blue")[number % 3] for number in range(11)]
    photos = [photo_of(label, tmp_path / f"{number} {label}.png") for number, label in enumerate(labels)]
    (tmp_path / "notes.txt").write_text("no photo")
    page.open(server.url)
    page.shows("version", "food v1")
    (tmp_path / "nothing.jpg").write_bytes(b"")
    cut = tmp_path / "cut.jpg"  # a browser shows the part of it that there is
    Image.open(io.BytesIO(colour_photo("red", size=(640, 480)))).save(cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    page.choose(*photos[:6], tmp_path / "notes.txt", *photos[6:], tmp_path / "nothing.jpg", cut)
    page.shows("label", "red")
    page.until(lambda: not page.part("progress").is_displayed(), "all of them")
    assert len(thumbnails(page)) == 14
    for label, told in zip(labels, [each for each in thumbnails(page) if " " in each.split(":")[0]], strict=True):
        assert f" {label}.png: {label}, " in told
    # Each that is no photo says why, with a tile in place of a picture, and keeps no other from its answer.
    notes, nothing, half = (page.all(".thumbnail")[place] for place in (6, 12, 13))
    assert [each.text.split("\n")[-1] for each in (notes, nothing, half)] == ["no photo", "empty", "no photo"]
    assert not any(each.find_elements("css selector", "img:not([hidden])") for each in (notes, nothing, half))
    assert thumbnails(page)[6].startswith("notes.txt: no photo. Expected a photo as JPEG")
    of_notes, of_nothing, _ = page.part("detail").text.split("\n")
    assert of_notes == thumbnails(page)[6].replace("no photo. ", "")
    assert of_nothing == "nothing.jpg: Expected a photo; this file is empty, or a folder."
    page.all(".thumbnail")[1].click()
    page.shows("label", "green")
    assert page.hides("problem")
    notes.click()
    page.shows("detail", "notes.txt: Expected a photo as JPEG")
    assert page.part("label").text == "green"
    page.part("label").click()
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    page.shows("label", "blue")
    assert [each.get_attribute("aria-current") for each in page.all(".thumbnail")].index("true") == 2
    page.part("forget").click()
    page.until(lambda: page.hides("result", "session"), "nothing of them")
    assert page.part("question").is_displayed()
    assert page.run(BELOW, "hero", "samples") and page.run(BELOW, "samples", "session"), "not where they were"


def test_a_sample_is_a_click_or_a_link_away(page: Page, server: Serving) -> None:
    page.open(server.url)
    page.shows("samples", "try one of these")
    page.until(lambda: len(page.all(".sample img")) == 3, "three samples")
    alternatives = [each.get_attribute("alt") for each in page.all(".sample img")]
    assert alternatives == ["Sample photo 1: blue", "Sample photo 2: green", "Sample photo 3: red"]
    assert all(
        page.run("return arguments[0].complete && arguments[0].naturalWidth", each) for each in page.all(".sample img")
    )
    page.all(".sample")[1].click()
    page.shows("label", "green")
    link = page.browser.current_url
    assert link.endswith("?sample=2")
    # The others stay, below the answer, and one that is clicked again is not a second photo.
    assert [each.is_displayed() for each in page.all(".sample")] == [True] * 3
    assert page.part("samples").location["y"] >= page.part("result").location["y"] + page.part("result").size["height"]
    for place, label in ((2, "red"), (1, "green"), (0, "blue")):
        page.all(".sample")[place].click()
        page.shows("label", label)
    assert [told.split(":")[0] for told in thumbnails(page)] == [
        f"sample {number}, {label}.png" for number, label in ((2, "green"), (3, "red"), (1, "blue"))
    ]
    page.open("about:blank")
    page.open(link)
    page.shows("label", "green")
    page.resize(1000, 480)
    page.open(f"{server.url}/?sample=4")
    page.shows("detail", "Expected sample to be a number from 1 to 3; received 4.")
    page.until(lambda: len(page.all(".sample img")) == 3, "three samples")
    # The browser scrolls by whole pixels, and parts of a page end between them.
    rect = page.run("return document.getElementById('problem').getBoundingClientRect().toJSON()")
    assert 0 <= round(rect["top"]) < round(rect["bottom"]) <= 480, "it is beyond the fold"


def test_the_camera_takes_a_photo(page: Page, server: Serving) -> None:
    """Chromium's own test picture is what it sees."""
    page.camera(server.url, "granted")
    page.open(server.url)
    page.shows("version", "food v1")
    page.part("camera-button").click()
    page.shows("dialog", "Take the photo")
    seen = "const video = document.querySelector('video'); return video && video.videoWidth"
    page.until(lambda: page.run(seen), "a picture")
    for height in (480, 757):
        page.resize(900, height)
        whole = "const { scrollHeight, clientHeight } = arguments[0]; return scrollHeight <= clientHeight"
        assert page.run(whole, page.part("dialog")), f"it is cut off in a window of {height} pixels"
    page.run("window.track = document.querySelector('video').srcObject.getTracks()[0]")
    page.all("#dialog .buttons button")[0].click()
    page.until(lambda: page.part("label").text and page.hides("dialog"), "an answer")
    assert re.fullmatch(r"Your photo camera \d\d\.\d\d\.\d\d\.jpg", str(page.part("shown").get_attribute("alt")))
    assert page.run("return window.track.readyState") == "ended", "the camera is on"
    page.part("camera-button").click()
    page.shows("dialog", "Take the photo")
    page.run("window.track = document.querySelector('video').srcObject.getTracks()[0]")
    page.all("#dialog .live input")[0].click()
    page.until(
        lambda: re.fullmatch(r"I don.t know|(blue|green|grey|red), \d+\.\d %", page.texts(".seen")[0]), "what it sees"
    )
    page.browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    page.until(lambda: page.run("return window.track.readyState") == "ended", "the camera to go off")


def test_a_phone_whose_browser_gives_no_camera_takes_the_photo_with_its_own_app(
    page: Page, server: Serving, red: Path
) -> None:
    """Refused, then where there is no `mediaDevices`: a page that came from elsewhere than localhost, without TLS.

    The app is the phone's: the photo that it gives is put into the field that opens it.
    """
    devtools = page.browser.execute_cdp_cmd
    page.camera(server.url, "denied")
    devtools("Emulation.setTouchEmulationEnabled", {"enabled": True, "maxTouchPoints": 1})
    try:
        page.open(server.url)
        page.shows("version", "food v1")
        assert page.hides("capture-button")
        page.part("camera-button").click()
        page.shows("detail", "The camera gives no picture. It may not be used: allow it in the browser's settings.")
        page.shows("capture-button", "Take a photo")
        page.open(server.url.replace("127.0.0.1", "0.0.0.0"))
        page.shows("version", "food v1")
        assert page.run("return navigator.mediaDevices === undefined")
        assert page.hides("camera-button") and page.part("capture-button").is_displayed()
        field = page.part("capture")
        assert (field.get_attribute("capture"), field.get_attribute("accept")) == ("environment", "image/*")
        field.send_keys(str(red))
        page.shows("label", "red")
    finally:
        devtools("Emulation.setTouchEmulationEnabled", {"enabled": False})


def test_the_last_answer_stays_while_the_next_is_looked_at_which_takes_long_and_is_cancelled(
    page: Page, page_store: Path, red: Path, tmp_path: Path
) -> None:
    """The server is stopped as a process is that gets no processor time."""
    green = photo_of("green", tmp_path / "green.png")
    with serve(page_store, tmp_path / "serving") as server:
        page.open(server.url)
        page.shows("version", "food v1")
        page.choose(red)
        page.shows("label", "red")
        os.killpg(server.process.pid, signal.SIGSTOP)
        try:
            page.choose(green)
            page.shows("toast", "Looking at green.png…")
            page.shows("long", "This takes longer than usual.")
            assert page.part("label").text == "red" and page.part("overlay").is_displayed()
            page.part("cancel").click()
            page.until(lambda: "green.png: stopped" in thumbnails(page), "that it was stopped")
            assert page.part("label").text == "red" and not page.part("cancel").is_displayed()
        finally:
            os.killpg(server.process.pid, signal.SIGCONT)
        page.all(".thumbnail")[1].click()
        page.shows("label", "green")
    page.choose(red)
    page.shows("detail", "a photo.jpg: The server cannot be reached")
    assert page.part("label").text == "green" and page.part("again").is_displayed()


def test_a_file_that_is_gone_or_empty_is_named(page: Page, server: Serving, red: Path, tmp_path: Path) -> None:
    (tmp_path / "nothing.png").write_bytes(b"")
    page.open(server.url)
    page.shows("version", "food v1")
    page.choose(tmp_path / "nothing.png")
    page.shows("detail", "nothing.png: Expected a photo; this file is empty, or a folder.")
    page.choose(red)
    page.shows("label", "red")
    assert page.browser.title == "Pointer: red"
    red.unlink()
    page.all("#predictions button")[1].click()
    page.shows("detail", "a photo.jpg: It cannot be read any more: it was moved or changed. Choose it again.")
    assert page.part("label").text == "red"


@pytest.mark.long
def test_a_limit_that_is_reached_is_waited_for(page: Page, page_store: Path, tmp_path: Path) -> None:
    photos = [photo_of(label, tmp_path / f"{label}.png") for label in ("red", "green", "blue")]
    # The page takes all five: three samples, /models and /model. Should a new window begin before the photos are
    # chosen, it still lets only one of the three pass at first.
    with serve(page_store, tmp_path / "serving", RATE_LIMIT="5/15second") as server:
        page.open(server.url)
        page.until(lambda: len(page.all(".sample img")) == 3, "three samples")
        page.choose(*photos)
        page.shows("again", "Try again (by itself in ")
        page.until(lambda: "blue.png: blue" in thumbnails(page)[-1], "the last one", seconds=90)
        assert len(thumbnails(page)) == 3
        assert page.hides("problem")


@pytest.mark.long
def test_a_photo_that_the_browser_cannot_show_has_its_overlay_alone(
    page: Page, server: Serving, tmp_path: Path
) -> None:
    Image.new("RGB", (64, 48), (220, 30, 20)).save(tmp_path / "red.tiff")
    page.open(server.url)
    page.shows("version", "food v1")
    page.choose(tmp_path / "red.tiff")
    page.shows("label", "red")
    page.until(lambda: page.hides("shown", "tools"), "no photo beside the heatmap")
    assert page.part("overlay").size["width"] > 100


def test_what_is_not_like_anything_it_knows_is_said_clearly(page: Page, server: Serving, tmp_path: Path) -> None:
    page.open(server.url)
    page.shows("version", "food v1")
    page.choose(strange_photo(tmp_path / "odd.png"))
    page.shows("label", "I don")
    page.shows("doubt", "is not like anything this model was trained on")
    assert page.hides("sure")
