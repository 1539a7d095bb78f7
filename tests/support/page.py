"""The try-it page in a real Chromium, and a real server that shows it: shared by all tests of the page."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.wait import WebDriverWait

from classifier.registry.public_files import CARD_FILE
from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.serving import MODEL, Serving, publish, serve

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-first-run", "--window-size=900,900", "--use-fake-device-for-media-stream",
)  # fmt: skip
needs_chromium = pytest.mark.skipif(
    not (CHROMIUM and CHROMEDRIVER), reason="chromium or chromedriver is not installed (Debian: chromium-driver)"
)
NOTICE = "A demonstration: it tells four colours apart."
FIGURES = {"photos": 500, "top_1": 0.91, "top_1_low": 0.882, "top_1_high": 0.932}
LONG_LABEL = "a_label_of_many_words_" * 4 + "and_one_of_" + "many" * 12 + "letters"
OTHER_LABELS = (LONG_LABEL, "خبز_مسطح_بالزعتر", "grey", "red")
"""In the order of `TINY_LABELS`: one that is long, one that is written from the right to the left."""
UNLIKE_ANY = (151, 151, 90)
"""A colour of which the tiny model is less than 40 % sure, its threshold."""


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

    def texts(self, selector: str) -> list[str]:
        return [element.text for element in self.all(selector)]

    def until(self, seen: Callable[[], object], what: str, seconds: float = 20) -> None:
        stale = [StaleElementReferenceException]  # lists are drawn anew while they are looked at
        wait = WebDriverWait(self.browser, seconds, poll_frequency=0.05, ignored_exceptions=stale)
        wait.until(lambda _: seen(), what)

    def shows(self, name: str, text: str = "") -> None:
        """Wait until a part is there, with this text in it."""
        self.until(lambda: self.part(name).is_displayed() and text in self.part(name).text, f"{name} with {text!r}")

    def hides(self, *names: str) -> bool:
        return not any(self.part(name).is_displayed() for name in names)

    def choose(self, *photos: Path) -> None:
        self.part("file").send_keys("\n".join(map(str, photos)))

    def run(self, script: str, *given: Any) -> Any:
        return self.browser.execute_script(script, *given)  # type: ignore[no-untyped-call]

    def emulate(self, **features: str) -> None:
        """Set what a user may prefer, such as `prefers_color_scheme="dark"`; none: the browser's own."""
        set_to = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": set_to})

    def resize(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def camera(self, url: str, setting: str) -> None:
        """Let its user have "granted" or "denied" a site the camera."""
        given = {"origin": url, "permission": {"name": "camera"}, "setting": setting}
        self.browser.execute_cdp_cmd("Browser.setPermission", given)

    def complaints(self) -> list[str]:
        """What the browser has said since the last call, but for replies that tell of an error."""
        said = [str(entry["message"]) for entry in self.browser.get_log("browser")]  # type: ignore[no-untyped-call]
        return [line for line in said if "Failed to load resource" not in line]


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """A Chromium with a camera that shows a test picture."""
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
    complaints = page.complaints()
    page.emulate()
    page.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert complaints == []


@pytest.fixture
def red(tmp_path: Path) -> Path:
    return photo_of("red", tmp_path / "a photo.jpg")


@pytest.fixture(scope="session")
def page_store(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    """A store of `food`, which shows photos and card, and of `words`, which has labels that are hard to set."""
    folder = tmp_path_factory.mktemp("page")
    bundle = shutil.copytree(tiny_bundle_original, folder / "bundle")
    manifest = json.loads((bundle / "manifest.json").read_bytes())
    manifest |= {"notice": NOTICE, "metrics": {"test": FIGURES}}
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    publish(folder / "store", bundle, public=("golden/0.png", "golden/1.png", "golden/3.png", CARD_FILE))
    renamed = dict(zip(TINY_LABELS, OTHER_LABELS, strict=True))
    golden_cases = [{**case, "label": renamed[case["label"]]} for case in manifest["golden"]]
    del manifest["notice"]
    (bundle / "manifest.json").write_text(json.dumps(manifest | {"labels": OTHER_LABELS, "golden": golden_cases}))
    words = Registry(LocalStore(folder / "store"), "words")
    words.publish(bundle, who="tester", replay=golden.replay)
    words.promote("v1", who="tester", reason="", replay=golden.replay)
    return folder / "store"


@pytest.fixture(scope="session")
def server(page_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of `page_store` with the page; `MODEL` is its default."""
    with serve(page_store, tmp_path_factory.mktemp("server"), MODEL_NAMES="words") as serving:
        assert MODEL == "food"
        yield serving


def photo_of(label: str, path: Path, size: tuple[int, int] = (64, 48)) -> Path:
    """Write a photo of one of `TINY_COLOURS`."""
    path.write_bytes(colour_photo(label, size=size))
    return path


def strange_photo(path: Path) -> Path:
    """Write a photo that is not like anything that the tiny model knows."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), UNLIKE_ANY).save(buffer, "PNG")
    path.write_bytes(buffer.getvalue())
    return path
