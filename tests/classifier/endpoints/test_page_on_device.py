"""The model in a real browser beside that on a real server: the same pixels and probabilities, and no more rights.

Skipped where Chromium is not installed, or LiteRT.js, which `make check-web` and `make litert` install.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
from PIL import Image
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

from bench.preprocessing import rendered_scene
from classifier.endpoints.on_device import WORKER_POLICY
from classifier.photo.preprocessing import load_array
from classifier.registry.manifest import InputSpec
from scripts import litert
from tests.classifier.endpoints.test_page_for_all import AXE, VIOLATIONS
from tests.support.bundles import colour_photo
from tests.support.encoded_photos import saved
from tests.support.page import needs_chromium
from tests.support.processes import FUNCTIONS, ROOT
from tests.support.real_data import DATA, needs_photos
from tests.support.serving import Serving, publish, serve
from tests.support.silent import rewritten
from tests.support.static_site import static_site
from tests.support.tokens import google, id_token
from trainer.importing.graph import Graph

pytestmark = [
    needs_chromium,
    pytest.mark.skipif(not litert.PACKAGES.is_dir(), reason="LiteRT.js is not installed: make litert"),
]
NOT_DEPLOYED = shutil.ignore_patterns("__pycache__", "venv", "litert")
APART = 0.01
"""How much a probability of the device may differ from the server's."""


@pytest.fixture(scope="module")
def functions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is deployed where an operator has put LiteRT.js there."""
    folder = tmp_path_factory.mktemp("deployed") / "functions"
    shutil.copytree(FUNCTIONS, folder, ignore=NOT_DEPLOYED)
    litert.install(folder / "litert")
    return folder


@pytest.fixture(scope="module")
def server(published: Path, functions: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(published, functions, tmp_path_factory.mktemp("server")) as running:
        yield running


def serving(store: Path, functions: Path, folder: Path) -> Any:
    return serve(store, folder, functions=functions, ON_DEVICE="1", PYTHONPATH=str(functions))


@pytest.fixture
def chrome(browser: Chrome) -> Iterator[Chrome]:
    """The browser; LiteRT.js tells of its steps as if they were errors, which no other test is to see."""
    browser.set_script_timeout(60)
    yield browser
    browser.get_log("browser")


def until(chrome: Chrome, seen: Any) -> Any:
    return WebDriverWait(chrome, 60, poll_frequency=0.05).until(lambda _: seen())


def device(chrome: Chrome) -> Any:
    return chrome.find_element(By.ID, "device")


def compared(chrome: Chrome, photo: Path) -> tuple[float, list[list[str]]]:
    """Choose a photo, run it here, and return the largest difference and the table."""
    for table in chrome.find_elements(By.CSS_SELECTOR, "#device table"):
        chrome.execute_script("arguments[0].remove()", table)
    chrome.find_element(By.ID, "file").send_keys(str(photo))
    until(chrome, lambda: chrome.find_elements(By.CSS_SELECTOR, "#device button, #device table"))
    for button in chrome.find_elements(By.CSS_SELECTOR, "#device button"):
        button.click()
    tables = until(
        chrome, lambda: chrome.find_elements(By.CSS_SELECTOR, "#device table") or "cannot" in device(chrome).text
    )
    assert tables is not True, device(chrome).text
    rows = [
        [cell.text for cell in row.find_elements(By.XPATH, "*")] for row in tables[0].find_elements(By.TAG_NAME, "tr")
    ]
    return float(tables[0].get_attribute("data-apart")), rows


def test_a_photo_is_run_here_and_there(chrome: Chrome, server: Serving, tmp_path: Path) -> None:
    photo = tmp_path / "red.png"
    photo.write_bytes(colour_photo("red", size=(400, 300)))
    chrome.get(server.url)
    apart, (head, *rows) = compared(chrome, photo)
    assert apart < APART
    assert head == ["", "Server", "This device"]
    assert [row[0] for row in rows[-2:]] == ["The network alone", "With all around it"]
    assert rows[0][0] == "red" and rows[0][1] == rows[0][2]
    assert all(re.fullmatch(r"[0-9.]+ ms", cell) for row in rows[-2:] for cell in row[1:]), rows
    assert "Both say the same" in device(chrome).text
    green = tmp_path / "green.png"
    green.write_bytes(colour_photo("green", size=(33, 500)))
    apart, rows = compared(chrome, green)  # without being asked again
    assert apart < APART and rows[1][0] == "green"
    chrome.find_elements(By.CSS_SELECTOR, "#predictions button")[1].click()  # of another label the same is said
    until(chrome, lambda: "speaks for green" not in chrome.find_element(By.ID, "caption").text)
    assert len(chrome.find_elements(By.CSS_SELECTOR, "#device table")) == 1
    if AXE.is_file():  # as in test_page_for_all.py, which says so where it is missing
        chrome.execute_script(AXE.read_text(encoding="utf-8"))
        assert chrome.execute_async_script(VIOLATIONS) == []
    # LiteRT.js tells of its steps as if they were errors; nothing was refused or failed.
    said = [entry["message"] for entry in chrome.get_log("browser") if entry["level"] == "SEVERE"]
    assert [line for line in said if "litert_wasm_internal.js" not in line] == []


def test_what_cannot_be_run_here_says_why_and_what_to_do(
    chrome: Chrome, server: Serving, tiny_bundle: Path, functions: Path, tmp_path: Path
) -> None:
    """A photo that Chromium cannot decode, then a file whose number of photos is left open."""
    heic = tmp_path / "red.heic"
    heic.write_bytes(saved("HEIC", Image.new("RGB", (64, 64), (220, 30, 20))))
    said = run_here(chrome, server, heic)
    assert "the photo is HEIC, which this browser cannot decode. Choose it as JPEG or PNG to run it here" in said
    graph = Graph((tiny_bundle / "model.tflite").read_bytes())
    (image,) = graph.inputs
    graph.sub.tensors[image].shapeSignature = np.array([-1, 32, 32, 3], np.int32)
    (tiny_bundle / "model.tflite").write_bytes(graph.to_bytes())
    rewritten(tiny_bundle)
    publish(tmp_path / "store", tiny_bundle)
    red = tmp_path / "red.png"
    red.write_bytes(colour_photo("red"))
    with serving(tmp_path / "store", functions, tmp_path / "open") as left_open:
        assert "any number of photos at once, which LiteRT.js cannot." in run_here(chrome, left_open, red)


def run_here(chrome: Chrome, server: Serving, photo: Path) -> str:
    """Return what is said where a photo cannot be run here."""
    chrome.get(server.url)
    chrome.find_element(By.ID, "file").send_keys(str(photo))
    (offered,) = until(chrome, lambda: chrome.find_elements(By.CSS_SELECTOR, "#device button"))
    assert "the photo is not sent again" in device(chrome).text
    offered.click()
    until(chrome, lambda: "cannot be run here" in device(chrome).text)
    return str(device(chrome).text)


def test_nothing_of_it_is_there_unless_it_is_set(chrome: Chrome, published: Path, tmp_path: Path) -> None:
    photo = tmp_path / "red.png"
    photo.write_bytes(colour_photo("red"))
    with serve(published, tmp_path / "server") as plain:
        assert "litert_js" not in plain.get("/models").json()
        assert plain.get("/litert/2.5.3/index.js").status_code == 404
        assert "wasm" not in plain.get("/device_worker.js").headers["Content-Security-Policy"]
        chrome.get(plain.url)
        chrome.find_element(By.ID, "file").send_keys(str(photo))
        until(chrome, lambda: "red" in chrome.find_element(By.ID, "label").text)
        assert not device(chrome).is_displayed() and device(chrome).text == ""
        asked = chrome.execute_script("return performance.getEntriesByType('resource').map(({name}) => name)")
    assert not [name for name in asked if "device" in name or "litert" in name]


def test_only_the_worker_may_run_webassembly(server: Serving) -> None:
    assert "wasm" not in server.get("/").headers["Content-Security-Policy"]
    for prefix in ("", "/api"):
        assert server.get(f"{prefix}/device_worker.js").headers["Content-Security-Policy"] == WORKER_POLICY
    files = requests.get(server.url + "/models", timeout=10).json()["litert_js"]
    assert files == f"litert/{json.loads((litert.PACKAGES / 'core/package.json').read_text())['version']}/"
    wasm = server.get(f"/{files}wasm/litert_wasm_internal.wasm")
    assert wasm.content == (litert.PACKAGES / "core/wasm/litert_wasm_internal.wasm").read_bytes()
    assert wasm.headers["Content-Type"] == "application/wasm" and "immutable" in wasm.headers["Cache-Control"]
    assert int(wasm.headers["Content-Length"]) < 4e6
    known = {"If-None-Match": wasm.headers["ETag"]}
    assert server.get(f"/{files}wasm/litert_wasm_internal.wasm", headers=known).status_code == 304


def test_where_litert_js_is_missing_the_function_does_not_start(tmp_path: Path) -> None:
    bare = tmp_path / "functions"
    shutil.copytree(FUNCTIONS, bare, ignore=NOT_DEPLOYED)
    environment = {**os.environ, "PYTHONPATH": str(bare), "ON_DEVICE": "1"}
    started = subprocess.run([sys.executable, "-c", "import main"], env=environment, capture_output=True, text=True)
    assert started.returncode == 1
    assert re.search(r"Expected ON_DEVICE to be 0 where .*/litert has no LiteRT.js; received '1'.", started.stderr)


def pixels(chrome: Chrome, photo: bytes, spec: InputSpec) -> np.ndarray:
    """What the page makes of a photo: uint8 [height, width, 3]."""
    script = (
        "const [photo, input, done] = arguments;"
        "const bytes = Uint8Array.from(atob(photo), (letter) => letter.charCodeAt(0));"
        "import(new URL('pixels.js', location.origin)).then(({pixelsOf}) => pixelsOf(new Blob([bytes]), input))"
        ".then((made) => done(Array.from(made)), (error) => done(String(error)));"
    )
    given = {"width": spec.width, "height": spec.height, "resize": spec.resize}
    made = chrome.execute_async_script(script, base64.b64encode(photo).decode(), given)
    assert isinstance(made, list), made
    return np.array(made, dtype=np.uint8).reshape(spec.height, spec.width, 3)


@pytest.mark.parametrize("resize", ["stretch", "crop"])
def test_drawn_photos_become_the_servers_pixels(chrome: Chrome, server: Serving, resize: str) -> None:
    """Small and large, upright and turned, transparent, in the sizes at which the server reduces first."""
    chrome.get(server.url)
    spec = InputSpec(64, 48, resize)
    turned = Image.Exif()
    turned[0x0112] = 6
    sheer = rendered_scene((300, 200), seed=2).convert("RGBA")
    sheer.putalpha(Image.linear_gradient("L").resize(sheer.size))
    photos = {
        "small": saved("PNG", rendered_scene((40, 30), seed=1)),
        "plain": saved("JPEG", rendered_scene((320, 240), seed=1)),
        "long": saved("PNG", rendered_scene((900, 90), seed=2)),
        "large": saved("WebP", rendered_scene((2000, 1500), seed=3)),
        "turned": saved("JPEG", rendered_scene((640, 480), seed=4), exif=turned),
        "sheer": saved("PNG", sheer),
    }
    for name, photo in photos.items():
        differences = np.abs(pixels(chrome, photo, spec).astype(int) - load_array(photo, spec))
        assert differences.mean() < 1, (name, differences.mean())


@needs_photos
def test_real_photos_become_the_servers_pixels(chrome: Chrome, server: Serving) -> None:
    chrome.get(server.url)
    for path in real_photos(6):
        photo = path.read_bytes()
        spec = InputSpec(224, 224, "stretch")
        differences = np.abs(pixels(chrome, photo, spec).astype(int) - load_array(photo, spec))
        assert differences.max() <= 1 and differences.mean() < 0.01, (path, differences.mean())


def test_who_is_asked_for_tokens_downloads_the_model_with_them(
    chrome: Chrome, published: Path, functions: Path, tmp_path: Path
) -> None:
    photo = tmp_path / "red.png"
    photo.write_bytes(colour_photo("red"))
    with google() as answers:
        site = answers.environment(tmp_path / "site")
        path = os.pathsep.join([site.pop("PYTHONPATH"), str(functions)])
        with serve(
            published, tmp_path / "server", functions=functions, ON_DEVICE="1", ACCESS="auth", PYTHONPATH=path, **site
        ) as running:
            chrome.get(running.url)
            token = until(chrome, lambda: next(iter(chrome.find_elements(By.CSS_SELECTOR, "#tokens input")), None))
            until(chrome, token.is_displayed)
            token.send_keys(id_token(), Keys.ENTER)
            until(chrome, lambda: chrome.find_element(By.ID, "version").text.endswith("v1"))
            apart, rows = compared(chrome, photo)
    assert apart < APART and rows[1][0] == "red"


@pytest.mark.long
@needs_photos
def test_a_real_network_says_the_same_of_real_photos(
    chrome: Chrome, functions: Path, trained: Path, tmp_path: Path
) -> None:
    publish(tmp_path / "store", trained / "bundle")
    with serving(tmp_path / "store", functions, tmp_path / "server") as running:
        assert running.get("/model").json()["variant"] == "int8"
        chrome.get(running.url)
        apart = [compared(chrome, photo)[0] for photo in real_photos(12)]
    assert max(apart) < APART


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a real network on a few real photos; what it is sure of differs from photo to photo."""
    run = tmp_path_factory.mktemp("trained") / "run"
    ran(
        "train", "--dataset", "food-101", "--data-dir", DATA / "food-101", "--architecture", "efficientnet_lite0",
        "--random-classes", "3", "--max-per-class", "6", "--head-epochs", "20", "--fine-tune-epochs", "0",
        "--variant", "int8", "--no-report", "--run", run,
    )  # fmt: skip
    return run


def ran(*arguments: object) -> None:
    program = Path(sys.executable).with_name("trainer")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_javascript_of_the_docs_runs_in_a_browser(chrome: Chrome, published: Path, tmp_path: Path) -> None:
    """Both parts as they stand there, on a page of another origin; `npm install` and its folder `wasm/` are as told."""
    parts = re.findall(r"```js\n(.*?)```", (ROOT / "docs/on-device.md").read_text(), re.S)
    assert len(parts) == 2
    with serve(published, tmp_path / "server") as plain:
        code = "\n".join(parts).replace("https://example.web.app/api/", f"{plain.url}/api/")
        site = tmp_path / "site"
        site.mkdir()
        shutil.copytree(litert.PACKAGES, site / "packages")
        shutil.copytree(litert.PACKAGES / "core/wasm", site / "wasm")
        (site / "app.js").write_text(code + "\nexport { classify };\n")
        imports = {f"@litertjs/{name}": f"./packages/{name}/dist/index.js" for name in ("core", "wasm-utils")}
        (site / "index.html").write_text(f'<script type="importmap">{json.dumps({"imports": imports})}</script>')
        photo = colour_photo("green", size=(80, 60))
        said = plain.post(files={"image": photo}).json()
        script = (
            "const [photo, done] = arguments;"
            "Promise.all([import('/app.js'), fetch(photo).then((reply) => reply.blob()).then(createImageBitmap)])"
            ".then(([{classify}, bitmap]) => classify(bitmap)).then(done, (error) => done(String(error)));"
        )
        with static_site(site) as origin:
            chrome.get(origin)
            got = chrome.execute_async_script(script, f"data:image/png;base64,{base64.b64encode(photo).decode()}")
    assert isinstance(got, dict), got
    assert (got["label"], got["known"]) == ("green", True)
    assert got["confidence"] == pytest.approx(said["confidence"], abs=APART)


def real_photos(count: int) -> list[Path]:
    """Photos, half of each data set, the same ones each time."""
    sets = (DATA / "food-101/images", DATA / "dog-breed/train")
    return [photo for each in sets for photo in random.Random(5).sample(sorted(each.rglob("*.jpg")), count // 2)]
