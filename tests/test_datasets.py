"""The loaders: each layout gives the same kind of frame; what is missing is said, nothing is guessed."""

from __future__ import annotations

import pandas as pd
import pytest

from classifier.errors import InvalidRequest, NotFound
from tests import photo_sets
from trainer.config import DataConfig
from trainer.datasets import class_targets, load


def _counts(frame: pd.DataFrame) -> dict[str, int]:
    return frame["split"].value_counts().to_dict()


def test_food_101_keeps_the_official_test_split(tmp_path):
    frame = load(DataConfig("food-101", str(photo_sets.food_101(tmp_path)), validation_share=0.25))
    assert list(frame.columns) == ["image_path", "label", "split"]
    assert _counts(frame) == {"train": 27, "validation": 9, "test": 12}
    official = {f"images/{line}.jpg" for line in (tmp_path / "meta/test.txt").read_text().split()}
    assert set(frame.loc[frame["split"] == "test", "image_path"]) == official
    assert frame.groupby(["split", "label"]).size().nunique() == 3


def test_dog_breed_is_split_80_to_20_stratified_and_seeded(tmp_path):
    root = str(photo_sets.dog_breed(tmp_path))
    frame = load(DataConfig("dog-breed", root))
    assert _counts(frame) == {"train": 21, "validation": 3, "test": 6}
    assert (frame[frame["split"] == "test"].groupby("label").size() == 2).all()
    pd.testing.assert_frame_equal(frame, load(DataConfig("dog-breed", root)))
    assert not frame.equals(load(DataConfig("dog-breed", root, seed=8)))


def test_a_folder_a_class(tmp_path):
    frame = load(DataConfig("folder", str(photo_sets.folder(tmp_path))))
    assert sorted(frame["label"].unique()) == ["apple", "leaf", "sky"]
    assert _counts(frame) == {"train": 21, "validation": 3, "test": 6}


def test_train_and_test_folders_are_kept_apart(tmp_path):
    photo_sets.folder(tmp_path, 10, "train")
    photo_sets.folder(tmp_path, 3, "test")
    frame = load(DataConfig("folder", str(tmp_path)))
    assert _counts(frame) == {"train": 27, "validation": 3, "test": 9}
    assert frame.loc[frame["image_path"].str.startswith("test/"), "split"].eq("test").all()


def test_csv_with_columns_of_any_name(tmp_path):
    photo_sets.folder(tmp_path)
    names = [path.relative_to(tmp_path).as_posix() for path in sorted(tmp_path.rglob("*.png"))]
    table = tmp_path / "table.csv"
    rows = [f"{name},{name.split('/')[0]},{'test' if index % 5 == 0 else 'train'}" for index, name in enumerate(names)]
    table.write_text("file,what,part\n" + "\n".join(rows) + "\n")
    config = DataConfig(
        "csv", str(tmp_path), csv=str(table), image_column="file", label_column="what", split_column="part"
    )
    assert _counts(load(config)) == {"train": 21, "validation": 3, "test": 6}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n", r"Expected columns \['image_path', 'label'\]"),
        ("image_path,label\na.png,\n", r":2: expected a value in each"),
        ("image_path,label,split\na.png,x,dev\n", r"Expected train, validation, test in column 'split'.*'dev'"),
    ],
)
def test_a_table_that_cannot_be_used_is_refused(tmp_path, text, message):
    table = tmp_path / "table.csv"
    table.write_text(text)
    with pytest.raises(InvalidRequest, match=message):
        load(DataConfig("csv", str(tmp_path), csv=str(table)))


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(NotFound, match="Expected a folder at --data-dir"):
        load(DataConfig("folder", str(tmp_path / "nowhere")))
    with pytest.raises(NotFound, match=r"train\.txt.*The layout is: images/"):
        load(DataConfig("food-101", str(tmp_path)))
    with pytest.raises(InvalidRequest, match="Expected one of food-101, dog-breed, folder, csv; received"):
        load(DataConfig("imagenet", str(tmp_path)))
    with pytest.raises(InvalidRequest, match="No photos found"):
        load(DataConfig("folder", str(tmp_path)))


def test_a_class_of_one_photo_keeps_it_for_training(tmp_path):
    photo_sets.folder(tmp_path)
    photo_sets.write_photo(tmp_path / "rare" / "only.png", (9, 9, 9), 1)
    frame = load(DataConfig("folder", str(tmp_path)))
    assert frame.loc[frame["label"] == "rare", "split"].tolist() == ["train"]


def test_targets_follow_the_order_of_the_classes():
    labels = pd.Series(["b", "a", "c"])
    assert class_targets(labels, ("a", "b", "c"), one_hot=False).tolist() == [1, 0, 2]
    assert class_targets(labels, ("c", "b", "a"), one_hot=True).tolist() == [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    with pytest.raises(InvalidRequest, match="Expected labels among a, b; received 'c'"):
        class_targets(labels, ("a", "b"), one_hot=False)
