"""The contract as a page, in a real browser: all that openapi.yaml names, for everybody, and without a script.

That it says what openapi.yaml says now is for `make check-web`, which makes it anew and compares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from selenium.webdriver import Keys

from tests.classifier.endpoints.test_page_for_all import AXE, VIOLATIONS, fits
from tests.support.contract import operations
from tests.support.page import Page, needs_chromium
from tests.support.processes import FUNCTIONS
from tests.support.serving import Serving, serve

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server of nothing: the contract needs no model."""
    folder = tmp_path_factory.mktemp("nothing")
    with serve(folder / "store", folder / "server") as serving:
        yield serving


def test_it_names_every_operation_and_schema_and_its_links_lead_there(page: Page, server: Serving) -> None:
    document = yaml.safe_load((FUNCTIONS / "openapi.yaml").read_text())
    page.open(server.url)
    page.all("footer a")[0].click()
    page.until(lambda: page.texts("h1") == ["Pointer: the HTTP contract"], "the contract")
    headings = [heading.get_attribute("textContent") or "" for heading in page.all("h3")]
    for path, method, operation in operations(document):
        assert f"{method.upper()} {path}: {operation['summary']}" in headings
    assert set(document["components"]["schemas"]) <= set(headings)
    links = page.run("return [...document.links].map((each) => each.getAttribute('href'))")
    inside = [link.removeprefix("#") for link in links if link.startswith("#")]
    assert len(inside) > len(headings)
    known = set(page.run("return [...document.querySelectorAll('[id]')].map((each) => each.id)"))
    assert set(inside) <= known
    assert [link for link in links if not link.startswith("#")] == ["./", "api/openapi.yaml"]
    version = re.search(r"OpenAPI Version: (\S+)", page.browser.find_element("tag name", "main").text)
    assert version and version[1] == document["openapi"]


def test_errors_are_folded_and_open_with_the_keyboard(page: Page, server: Serving) -> None:
    page.open(f"{server.url}/contract.html")
    refused = next(each for each in page.all("details") if each.text.startswith("422 "))
    assert refused.get_attribute("open") is None and "invalid-image" not in refused.text
    refused.find_element("tag name", "summary").send_keys(Keys.ENTER)
    page.until(lambda: "urn:pointer:problem:invalid-image" in refused.text, "the problem")
    answered = next(each for each in page.all("details") if each.text.startswith("200 "))
    assert answered.get_attribute("open") is not None


def test_it_needs_no_script_and_nothing_of_another_origin(page: Page, server: Serving) -> None:
    reply = server.get("/contract.html")
    assert "script-src 'self'; style-src 'self'" in reply.headers["Content-Security-Policy"]
    assert not re.search(r"<script|<style|style=|\son[a-z]+=|(?:src|href)=\"(?:https?:)?//", reply.text)
    page.open(f"{server.url}/contract.html")
    asked = page.run("return performance.getEntriesByType('resource').map(({ name }) => new URL(name).pathname)")
    assert set(asked) - {"/favicon.ico"} == {"/colours.css", "/contract.css"}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_axe_finds_nothing(page: Page, server: Serving, scheme: str) -> None:
    page.resize(360, 740)
    page.emulate(prefers_color_scheme=scheme)
    page.open(f"{server.url}/contract.html")
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    fits(page)
    if not AXE.is_file():
        pytest.skip("axe-core is not installed (make check-web installs it)")
    page.run(Path(AXE).read_text(encoding="utf-8"))
    assert page.browser.execute_async_script(VIOLATIONS) == []  # type: ignore[no-untyped-call]
