"""The try-it page in a real browser, against real servers; skipped where chromium or chromedriver is not installed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.select import Select
from selenium.webdriver.support.wait import WebDriverWait

from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from tests.support.bundles import colour_photo
from tests.support.serving import Serving, publish, serve
from tests.support.silent import silenced, silent_model
from tests.support.tokens import app_token, google, id_token

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-first-run", "--window-size=900,900",
)  # fmt: skip
pytestmark = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium or chromedriver is not installed (Debian: chromium-driver)"
)


class Page:
    """The page in a browser, by the ids of its parts."""

    def __init__(self, browser: Chrome) -> None:
        self.browser = browser

    def open(self, url: str) -> None:
        self.browser.get(url)

    def part(self, name: str) -> WebElement:
        return self.browser.find_element(By.ID, name)

    def all(self, selector: str) -> list[WebElement]:
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def until(self, seen: Callable[[], object], what: str) -> None:
        WebDriverWait(self.browser, 20, poll_frequency=0.05).until(lambda _: seen(), what)

    def shows(self, name: str, text: str = "") -> None:
        """Wait until a part is there, with this text in it."""
        self.until(lambda: self.part(name).is_displayed() and text in self.part(name).text, f"{name} with {text!r}")

    def hides(self, *names: str) -> bool:
        return not any(self.part(name).is_displayed() for name in names)

    def choose(self, photo: Path) -> None:
        self.part("file").send_keys(str(photo))

    def complaints(self) -> list[str]:
        """What the browser has said since the last call, but for replies that tell of an error."""
        said = [str(entry["message"]) for entry in self.browser.get_log("browser")]  # type: ignore[no-untyped-call]
        return [line for line in said if "Failed to load resource" not in line]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options, ChromeService(str(CHROMEDRIVER))) as chrome:
        yield chrome


@pytest.fixture
def page(browser: Chrome) -> Iterator[Page]:
    page = Page(browser)
    yield page
    assert page.complaints() == []


@pytest.fixture
def red(tmp_path: Path) -> Path:
    (tmp_path / "a photo.jpg").write_bytes(colour_photo("red", size=(64, 48)))
    return tmp_path / "a photo.jpg"


@pytest.fixture(scope="module")
def server(published: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serve(published, tmp_path_factory.mktemp("server")) as serving:
        yield serving


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
        label = page.part("label").text.split(",")[0]
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
    page.shows("label", "red, ")
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
    assert page.part("label").text.startswith("red, ")
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
    page.shows("label", "red, ")
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
            page.shows("label", "red, ")
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
