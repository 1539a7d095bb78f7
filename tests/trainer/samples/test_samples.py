"""The generated samples: Food-101's layout, true boxes, the same bytes every time, and never half a data set."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from classifier.errors import InvalidSetting
from tests.support.processes import FUNCTIONS, ROOT
from trainer.samples.dataset import BOX_COLUMNS, CLASSES, generate, read_boxes
from trainer.samples.photo import draw

SMALL = {"photos_per_class": 4, "test_per_class": 2, "size": 64}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("samples") / "new" / "food"
    generate(path, **SMALL)
    return path


def test_the_layout_is_that_of_food_101(folder: Path) -> None:
    meta = folder / "meta"
    assert (meta / "classes.txt").read_text() == "cookie\ndoughnut\nfried_egg\npizza\nwatermelon\n"
    assert (meta / "labels.txt").read_text() == "Cookie\nDoughnut\nFried egg\nPizza\nWatermelon\n"
    listed = {}
    for split, count in (("train", 4), ("test", 2)):
        names = (meta / f"{split}.txt").read_text().splitlines()
        by_class = json.loads((meta / f"{split}.json").read_text())
        assert list(by_class) == list(CLASSES)
        assert names == [name for members in by_class.values() for name in members] == sorted(names)
        for label, members in by_class.items():
            assert len(members) == count
            assert all(name.split("/")[0] == label and name.split("/")[1].isdigit() for name in members)
        listed[split] = set(names)
    assert not listed["train"] & listed["test"]
    stored = {path.relative_to(folder / "images").with_suffix("").as_posix() for path in folder.glob("images/*/*.jpg")}
    assert stored == listed["train"] | listed["test"]
    assert len(list(folder.glob("images/**/*"))) == len(CLASSES) + len(stored)


def test_every_photo_is_a_jpeg_of_the_asked_size_and_no_two_are_the_same(folder: Path) -> None:
    paths = list(folder.glob("images/*/*.jpg"))
    for path in paths:
        with Image.open(path) as image:
            image.load()
            assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (64, 64))
    assert len({path.read_bytes() for path in paths}) == len(paths) == 30


def test_the_table_has_one_box_inside_each_photo(folder: Path) -> None:
    boxes = generate(folder, **SMALL)
    assert tuple(boxes.columns) == BOX_COLUMNS
    assert boxes["image_path"].is_monotonic_increasing
    assert set(boxes["image_path"]) == {path.relative_to(folder).as_posix() for path in folder.glob("images/*/*.jpg")}
    assert (boxes["label"] == boxes["image_path"].str.split("/").str[1]).all()
    assert (boxes[["left", "top"]] > 0).all(axis=None)
    assert (boxes[["right", "bottom"]] < 64).all(axis=None)
    longer = np.maximum(boxes["right"] - boxes["left"], boxes["bottom"] - boxes["top"]) / 64
    assert longer.between(0.35, 0.75).all(), longer.describe()
    pd.testing.assert_frame_equal(boxes, read_boxes(folder))


@pytest.mark.parametrize("label", CLASSES)
def test_the_box_holds_the_object_tightly(label: str) -> None:
    for number in range(4):
        seed = (11, number)
        drawing, empty = draw(label, seed, 128), draw(label, seed, 128, with_food=False)
        assert drawing.box == empty.box
        left, top, right, bottom = drawing.box
        seen, without = (np.asarray(photo.image, np.int16) for photo in (drawing, empty))
        changed = np.abs(seen - without).max(axis=2) > 24
        inside = changed[top:bottom, left:right]
        # The object reaches every side of its box ...
        for strip in (inside[:3], inside[-3:], inside[:, :3], inside[:, -3:]):
            assert strip.any(), (label, number, drawing.box)
        assert inside.mean() > 0.3, (label, number, inside.mean())
        # ... and beyond the box there is nothing but its shadow, and a little blur.
        margin = 4
        beyond = np.ones(changed.shape, bool)
        beyond[top - margin : bottom + margin, left - margin : right + margin] = False
        assert (seen - without)[beyond].max() < 16, (label, number)


def test_all_that_surrounds_the_food_is_the_same_for_every_class() -> None:
    scenes = [np.asarray(draw(label, (3, 5), 64, with_food=False).image) for label in CLASSES]
    assert all(np.array_equal(scene, scenes[0]) for scene in scenes[1:])
    photos = [np.asarray(draw(label, (3, 5), 64).image) for label in CLASSES]
    assert all(np.abs(photo.astype(int) - scenes[0]).mean() > 2 for photo in photos)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    generate(tmp_path / "again", **SMALL)
    assert _contents(tmp_path / "again") == _contents(folder)
    generate(tmp_path / "other", **SMALL, seed=8)
    other = _contents(tmp_path / "other")
    photos = {data for name, data in other.items() if name.endswith(".jpg")}
    assert len(photos) == 30
    assert not photos & set(_contents(folder).values())


def test_a_complete_folder_is_left_as_it_is(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    generate(folder, **SMALL)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_other_parameters_replace_what_was_there(tmp_path: Path) -> None:
    generate(tmp_path, photos_per_class=2, test_per_class=1, size=64)
    boxes = generate(tmp_path, photos_per_class=1, test_per_class=1, size=48)
    assert len(boxes) == len(list(tmp_path.glob("images/*/*"))) == 10
    assert len((tmp_path / "meta" / "train.txt").read_text().splitlines()) == 5


@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_folder_is_drawn_afresh(damage: str, folder: Path, tmp_path: Path) -> None:
    generate(tmp_path, **SMALL)
    photo = next(tmp_path.glob("images/pizza/*.jpg"))
    if damage == "missing":
        photo.unlink()
    else:
        photo.write_bytes(photo.read_bytes()[:100])
    generate(tmp_path, **SMALL)
    assert _contents(tmp_path) == _contents(folder)


def test_a_killed_generation_is_never_taken_for_complete(folder: Path, tmp_path: Path) -> None:
    call = "generate(Path('.'), photos_per_class=5000)"
    many = f"from pathlib import Path; from trainer.samples.dataset import generate; {call}"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{FUNCTIONS}"}
    process = subprocess.Popen([sys.executable, "-c", many], cwd=tmp_path, env=environment)
    try:
        deadline = time.monotonic() + 30
        while len(list(tmp_path.glob("images/*/*.jpg"))) < 3:
            assert process.poll() is None, "the generation ended by itself"
            assert time.monotonic() < deadline, "no photo was drawn in 30 s"
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "meta").exists()
    assert json.loads((tmp_path / "samples.json").read_text())["complete"] is False
    generate(tmp_path, **SMALL)
    assert _contents(tmp_path) == _contents(folder)


def test_rivals_in_one_folder_do_not_disturb_each_other(folder: Path, tmp_path: Path) -> None:
    with ThreadPoolExecutor(3) as pool:
        tables = list(pool.map(lambda _: generate(tmp_path / "shared", **SMALL), range(3)))
    assert all(table.equals(tables[0]) for table in tables[1:])
    assert _contents(tmp_path / "shared") == _contents(folder)


def test_a_folder_of_somebody_elses_photos_is_refused_and_kept(tmp_path: Path) -> None:
    precious = tmp_path / "images" / "pizza" / "1.jpg"
    precious.parent.mkdir(parents=True)
    precious.write_bytes(b"mine")
    with pytest.raises(InvalidSetting, match=r"found 'images' and no samples\.json"):
        generate(tmp_path, **SMALL)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [precious]
    assert precious.read_bytes() == b"mine"
    with pytest.raises(InvalidSetting, match="it is a file"):
        generate(precious, **SMALL)


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [("photos_per_class", 0, 1), ("test_per_class", 0, 1), ("size", 47, 48), ("seed", -1, 0)],
)
def test_a_number_out_of_range_is_refused(name: str, value: int, least: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match=f"Expected {name} of at least {least} .*received {value}"):
        generate(tmp_path / "none", **{**SMALL, name: value})
    assert not (tmp_path / "none").exists()


def _contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
