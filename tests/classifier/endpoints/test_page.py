"""The try-it page in a real browser, against real servers; skipped where chromium or chromedriver is not installed."""

from __future__ import annotations

from pathlib import Path

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.support.select import Select

from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from tests.support.bundles import colour_photo
from tests.support.page import Page, needs_chromium
from tests.support.serving import Serving, publish, serve
from tests.support.silent import silenced, silent_model
from tests.support.tokens import app_token, google, id_token

pytestmark = needs_chromium


@pytest.mark.long
def test_a_model_without_grad_cam_is_explained_by_occlusion(page: Page, tiny_bundle: Path, red: Path, tmp_path: Path):
    """The page asks for Grad-CAM, is told that this model has none, and asks again by itself."""
    (tmp_path / "silent").mkdir()
    publish(tmp_path / "store", silenced(tiny_bundle, silent_model(tmp_path / "silent")))
    with serve(tmp_path / "store", tmp_path / "server") as serving:
        page.open(serving.url)
        page.shows("version", "food v1")
        page.choose(red)
        page.shows("caption", "what speaks for ")
        assert page.part("overlay").is_displayed() and page.hides("problem")
        label = page.part("label").text
        assert label in page.part("caption").text
        before = page.part("overlay").get_attribute("src")
        page.all("#predictions button")[1].click()
        page.until(lambda: page.part("overlay").get_attribute("src") != before, "another heatmap")
        log = serving.log.read_text()
    assert log.count("cannot-explain") == 2, "once for each of the two that were asked for"


def test_a_photo_gets_its_labels_and_each_says_why(page: Page, server: Serving, red: Path) -> None:
    page.open(server.url)
    page.shows("version", "food v1")
    page.choose(red)
    page.shows("label", "red")
    page.shows("caption", "what speaks for red")
    assert page.part("overlay").is_displayed() and page.part("shown").is_displayed()
    names = [name.text for name in page.all("#predictions .name")]
    assert names[0] == "red" and sorted(names) == ["blue", "green", "grey", "red"]
    pressed = [button.get_attribute("aria-pressed") for button in page.all("#predictions button")]
    assert pressed == ["true", "false", "false", "false"]
    before = page.part("overlay").get_attribute("src")
    page.all("#predictions button")[1].click()
    page.shows("caption", f"what speaks for {names[1]}")
    assert page.part("overlay").get_attribute("src") != before
    assert page.part("label").text == "red"
    page.part("strength").send_keys(Keys.HOME)
    page.shows("percent", "0 %")
    assert page.part("overlay").value_of_css_property("opacity") == "0"
    assert page.hides("problem", "empty", "tokens")


def test_what_is_no_photo_is_said_and_the_next_one_is_shown(
    page: Page, server: Serving, red: Path, tmp_path: Path
) -> None:
    page.open(server.url)
    (tmp_path / "notes.txt").write_text("no photo")
    page.choose(tmp_path / "notes.txt")
    page.shows("problem", "received something else")
    assert page.hides("result", "again")
    page.choose(red)
    page.shows("label", "red")
    assert page.hides("problem")


def test_an_empty_store_says_what_to_do_and_a_server_that_is_gone_can_be_tried_again(
    page: Page, tiny_bundle: Path, red: Path, tmp_path: Path
) -> None:
    with serve(tmp_path / "store", tmp_path / "server") as serving:
        page.open(serving.url)
        page.shows("empty", "admin_cli promote v1")
        publish(tmp_path / "store", tiny_bundle)

        def looked_again() -> bool:
            if page.part("retry").is_displayed():
                page.part("retry").click()
            return "food v1" in page.part("version").text

        page.until(looked_again, "the version that was promoted meanwhile")
        assert page.hides("empty")
    page.choose(red)
    page.shows("problem", "The server cannot be reached")
    assert page.part("again").is_displayed()


def test_a_function_that_asks_for_tokens_gets_those_it_asks_for(
    page: Page, published: Path, red: Path, tmp_path: Path
) -> None:
    with google() as answers:
        environment = answers.environment(tmp_path / "site")
        with serve(published, tmp_path / "both", ACCESS="auth+app-check", **environment) as serving:
            page.open(serving.url)
            page.shows("tokens", "Firebase ID token")
            page.shows("tokens", "App Check token")
            assert page.hides("problem")
            user, app = page.all("#tokens input")
            user.send_keys("not a token")
            app.send_keys(app_token())
            page.part("tokens").submit()
            page.shows("problem", "Expected a valid Firebase ID token")
            user.clear()
            user.send_keys(id_token(), Keys.ENTER)
            page.shows("version", "food v1")
            assert page.hides("tokens", "problem")
            page.choose(red)
            page.shows("label", "red")
        with serve(published, tmp_path / "one", ACCESS="auth", **environment) as serving:
            page.open(serving.url)
            page.shows("tokens", "Firebase ID token")
            assert page.hides("app")


def test_one_of_several_models_is_chosen_and_named_in_the_address(
    page: Page, tmp_path: Path, tiny_bundle: Path, confused_bundle: Path
) -> None:
    publish(tmp_path / "store", tiny_bundle)
    dogs = Registry(LocalStore(tmp_path / "store"), "dogs")
    dogs.publish(confused_bundle, who="tester", replay=golden.replay)
    dogs.promote("v1", who="tester", reason="", replay=golden.replay)
    green = tmp_path / "green.png"
    green.write_bytes(colour_photo("green", size=(64, 64)))
    with serve(tmp_path / "store", tmp_path / "serving", MODEL_NAMES="dogs") as server:
        page.open(server.url)
        page.shows("version", "food v1")
        page.shows("models", "Model")
        page.choose(green)
        page.shows("label", "green")
        Select(page.part("model")).select_by_visible_text("dogs")
        page.shows("version", "dogs v1")
        page.shows("label", "blue")
        assert page.browser.current_url.endswith("?model=dogs")
        page.open(f"{server.url}/?model=dogs")
        page.shows("version", "dogs v1")
        assert Select(page.part("model")).first_selected_option.text == "dogs"
        page.open(f"{server.url}/?model=cats")
        page.shows("version", "food v1")
    with serve(tmp_path / "store", tmp_path / "alone") as server:
        page.open(server.url)
        page.shows("version", "food v1")
        assert page.hides("models")
