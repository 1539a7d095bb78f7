"""The site of docs/, made as `make site` makes it: nothing from elsewhere, and no link or anchor that leads nowhere.

`make test-site` runs this file, by name: Sphinx is in an environment of its own.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from scripts.site import pages
from tests.support.processes import ROOT

SPHINX = ROOT / ".venv/site/bin/sphinx-build"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
CHROMEDRIVER = shutil.which("chromedriver")
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--no-first-run", "--window-size=1280,900",
)  # fmt: skip


def _build(laid_out: Path, site: Path) -> subprocess.CompletedProcess[str]:
    command = [SPHINX, "-W", "--keep-going", "-q", "-b", "html", "-c", ROOT / "scripts/site", laid_out, site]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120)


def _name(entry: str) -> str:
    return entry.rpartition("<")[2].strip(">")


@pytest.fixture(name="site", scope="module")
def site_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    pages.lay_out(folder / "pages")
    done = _build(folder / "pages", folder / "site")
    assert (done.returncode, done.stderr) == (0, "")
    return folder / "site"


def test_every_page_is_in_the_menu_and_every_menu_entry_is_a_page(site: Path) -> None:
    expected = {path.stem for path in (ROOT / "docs").glob("*.md")} | {Path(name).stem for name in pages.PAGES.values()}
    assert {_name(entry) for entries in pages.ORDER.values() for entry in entries} == expected - {"index"}
    index = (site / "index.html").read_text()
    assert all(f'href="{name}.html"' in index for name in expected - {"index"})


def test_no_page_asks_for_anything_of_another_host(site: Path) -> None:
    for page in site.glob("*.html"):
        text = page.read_text()
        asked = re.findall(r"<(?:script|img|iframe|source|video)[^>]+src=\"([^\"]+)\"", text)
        asked += re.findall(r"<link[^>]+rel=\"(?:stylesheet|preload|icon|preconnect)\"[^>]*href=\"([^\"]+)\"", text)
        assert asked and not [each for each in asked if re.match(r"(?:https?:)?//", each)], page.name
    styles = [*site.rglob("*.css")]
    assert styles and not [path for path in styles if re.search(r"url\(['\"]?(?:https?:)?//|@import", path.read_text())]


def test_files_outside_docs_that_pages_link_to_are_there(site: Path) -> None:
    text = (site / "container.html").read_text()
    (link,) = re.findall(r"href=\"(_downloads/[^\"]*/Dockerfile)\"", text)
    assert (site / link).read_bytes() == (ROOT / "Dockerfile").read_bytes()
    assert 'href="index.html#settings"' in text  # of the README
    assert "trainer" in (site / "quickstart.html").read_text()  # of the notebook


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    for name in (each for each in pages.PAGES if each.endswith(".md")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text(f"# {name}\n")
    (copy / "docs").mkdir()
    for entries in pages.ORDER.values():
        for name in {_name(entry) for entry in entries} - {Path(each).stem for each in pages.PAGES.values()}:
            (copy / f"docs/{name}.md").write_text(f"# {name}\n\n## One\n")
    (copy / "docs/quickstart.ipynb").write_text('{"cells": [{"cell_type": "markdown", "source": ["# A notebook"]}]}')
    (copy / "docs/serving.md").write_text(
        "# Serving\n\n[a](no-page.md) [b](python.md#no-anchor) [c](#no-anchor-here) [d](../no-file.py)\n\n"
        "[right](python.md#one) [right](../README.md)\n"
    )
    (copy / "docs/forgotten.md").write_text("# In no menu\n")
    pages.lay_out(tmp_path / "pages", copy)
    (tmp_path / "pages/changelog.md").unlink()  # which the menu names
    done = _build(tmp_path / "pages", tmp_path / "site")
    assert done.returncode != 0
    for told in ("no-page.md", "no-anchor'", "no-anchor-here", "../no-file.py", "changelog", "forgotten.md"):
        assert told in done.stderr, (told, done.stderr)
    assert done.stderr.count("serving.md") == 4, done.stderr


@pytest.fixture(name="browser", scope="module")
def browser_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("chromium or chromedriver is not installed (Debian: chromium-driver)")
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options, ChromeService(str(CHROMEDRIVER))) as chrome:
        yield chrome


@pytest.fixture(name="address", scope="module")
def address_fixture(site: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("page", ["index.html", "operations.html", "cli.html"])
def test_a_browser_shows_it_and_fetches_from_here_alone(browser: Chrome, address: str, page: str) -> None:
    browser.get(f"{address}/{page}")
    assert browser.find_element(By.CSS_SELECTOR, "h1").text
    fetched = browser.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
    assert fetched and not [each for each in fetched if not each.startswith(address)]
    assert browser.execute_script(
        "return document.images.length === [...document.images].filter(i => i.naturalWidth).length"
    )
    assert [each["message"] for each in browser.get_log("browser")] == []


def test_the_search_finds_in_the_page_itself(browser: Chrome, address: str) -> None:
    browser.get(f"{address}/search.html?q=noncurrent+versioning")
    WebDriverWait(browser, 20).until(lambda _: "operations.html" in browser.page_source)
