"""`trainer audit` on drawn photos with a wrong label and a copy in another split; its page in a real browser."""

from __future__ import annotations

import csv
import shutil
import time
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from classifier.errors import InvalidRequest, Refused
from trainer.data.loaders import list_photos
from trainer.main import app
from trainer.run.sections import DataConfig
from trainer.samples.dataset import generate

pytestmark = pytest.mark.long
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
WRONG, COPY = "images/pizza/wrong.jpg", "images/cookie/copy.jpg"


@pytest.fixture(scope="module")
def audited(tmp_path_factory) -> tuple[Path, Path]:
    """Drawn photos with a doughnut among the pizzas and a copy of a test photo, and the folder of their audit."""
    root, out = tmp_path_factory.mktemp("photos") / "drawn", tmp_path_factory.mktemp("audit")
    generate(root, photos_per_class=12, test_per_class=3, size=96)
    train = (root / "meta/train.txt").read_text().splitlines()
    moved = next(name for name in train if name.startswith("doughnut/"))
    (root / f"images/{moved}.jpg").rename(root / WRONG)
    tested = next(name for name in (root / "meta/test.txt").read_text().splitlines() if name.startswith("cookie/"))
    with Image.open(root / f"images/{tested}.jpg") as photo:
        photo.save(root / COPY, quality=60)
    (root / "meta/train.txt").write_text("\n".join([*train, "pizza/wrong", "cookie/copy"]) + "\n")
    app(["audit", "--dataset", "food-101", "--data-dir", str(root), "--out", str(out)], standalone_mode=False)
    return root, out


def rows(out: Path) -> dict[str, dict[str, str]]:
    return rows_of(out / "decisions.csv")


def rows_of(table: Path) -> dict[str, dict[str, str]]:
    lines = table.read_text(encoding="utf-8").splitlines()
    return {row["image_path"]: row for row in csv.DictReader(lines)}


def twin_of(root: Path) -> str:
    tested = (root / "meta/test.txt").read_text().splitlines()
    return f"images/{next(name for name in tested if name.startswith('cookie/'))}.jpg"


def test_the_wrong_label_and_the_copy_are_listed(audited):
    root, out = audited
    table = pd.read_csv(out / "decisions.csv", keep_default_na=False)
    assert list(table) == ["image_path", "label", "suggested_label", "decision", "reason", "split"]
    assert set(table["decision"]) == {"keep"}
    assert table["image_path"][0] == WRONG
    assert (table["label"][0], table["suggested_label"][0]) == ("pizza", "doughnut")
    assert rows(out)[COPY]["reason"] == f"nearly the same as {twin_of(root)}, which is in test"
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "default-src &#39;none&#39;" in page and "http://" not in page and "https://" not in page
    assert page.count("data:image/jpeg") >= 3


def test_edited_it_is_taken_by_a_training_and_not_written_over(audited, tmp_path):
    root, out = audited
    text = (out / "decisions.csv").read_text()
    line = next(line for line in text.splitlines() if line.startswith(WRONG))
    edited = tmp_path / "decisions.csv"
    edited.write_text(text.replace(line, line.replace(",keep,", ",relabel,")))
    frame = list_photos(DataConfig("food-101", str(root), corrections=str(edited))).frame.set_index("image_path")
    assert frame.loc[WRONG, "label"] == "doughnut"
    with pytest.raises(Refused, match="--overwrite"):
        app(
            ["audit", "--dataset", "food-101", "--data-dir", str(root), "--out", str(tmp_path)],
            standalone_mode=False,
        )


def test_what_is_looked_at_has_to_be_said(tmp_path):
    with pytest.raises(InvalidRequest, match="folder of a run, or --dataset"):
        app(["audit"], standalone_mode=False)
    with pytest.raises(InvalidRequest, match="leave --dataset and --seed out"):
        app(["audit", str(tmp_path), "--dataset", "folder", "--seed", "3"], standalone_mode=False)


@pytest.mark.skipif(not (CHROMIUM and shutil.which("chromedriver")), reason="chromium or chromedriver is not installed")
def test_decisions_made_on_the_page_are_saved_as_the_table(audited, tmp_path):
    from selenium.webdriver import Chrome, ChromeOptions, ChromeService
    from selenium.webdriver.common.by import By

    _, out = audited
    options = ChromeOptions()
    options.binary_location = str(CHROMIUM)
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", profile):
        options.add_argument(switch)
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with Chrome(options, ChromeService(shutil.which("chromedriver"))) as chrome:
        chrome.get((out / "audit.html").as_uri())
        card = chrome.find_element(By.CSS_SELECTOR, f'[data-path="{WRONG}"]')
        press = "arguments[0].click()"  # the card may be far down the page
        chrome.execute_script(press, card.find_element(By.CSS_SELECTOR, "[value=relabel]"))
        twin = chrome.find_element(By.CSS_SELECTOR, f'#duplicates [data-path="{COPY}"]')
        chrome.execute_script(press, twin.find_element(By.CSS_SELECTOR, "[value=drop]"))
        assert chrome.find_element(By.ID, "count").text.startswith("2 of ")
        chrome.execute_script(press, chrome.find_element(By.ID, "save"))
        saved = tmp_path / "downloads/decisions.csv"
        deadline = time.monotonic() + 20
        while not saved.is_file() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not chrome.get_log("browser")
    before, after = rows(out), rows_of(saved)
    assert after[WRONG] == before[WRONG] | {"decision": "relabel"}
    assert after[COPY] == before[COPY] | {"decision": "drop"}
    assert {path: row for path, row in after.items() if path not in (WRONG, COPY)} == {
        path: row for path, row in before.items() if path not in (WRONG, COPY)
    }
