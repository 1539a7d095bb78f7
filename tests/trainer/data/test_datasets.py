"""The loaders: each layout gives the same kind of frame; what is missing is said, nothing is guessed."""

from __future__ import annotations

import pandas as pd
import pytest

from classifier.errors import InvalidRequest, NotFound
from tests.support import photo_sets
from trainer.data.loaders import class_targets, list_photos, load
from trainer.run.sections import DataConfig


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


def test_split_folders_are_known_in_any_letters_beside_what_archives_leave(tmp_path):
    photo_sets.folder(tmp_path, 4, "Train")
    photo_sets.folder(tmp_path, 3, "Test")
    for name in ("__MACOSX/Train", ".git"):
        photo_sets.write_photo(tmp_path / name / "._0.png", (1, 2, 3), 1)
    listing = list_photos(DataConfig("folder", str(tmp_path)))
    assert sorted(listing.frame["label"].unique()) == ["apple", "leaf", "sky"]
    assert _counts(listing.frame) == {"train": 9, "validation": 3, "test": 9}
    assert listing.left_out.empty


def test_without_a_test_folder_some_training_photos_are_held_out(tmp_path):
    photo_sets.folder(tmp_path, 10, "train")
    photo_sets.folder(tmp_path, 2, "val")
    frame = load(DataConfig("folder", str(tmp_path)))
    assert _counts(frame) == {"train": 24, "validation": 6, "test": 6}
    assert frame.loc[frame["image_path"].str.startswith("val/"), "split"].eq("validation").all()


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        (("train", "test", "backup"), "has test, train beside backup"),
        (("val", "test"), "has test, val without a train folder"),
    ],
)
def test_folders_that_may_mean_either_layout_are_refused(tmp_path, folders, message):
    for name in folders:
        photo_sets.folder(tmp_path, 3, name)
    with pytest.raises(InvalidRequest, match=message):
        load(DataConfig("folder", str(tmp_path)))


def test_every_file_that_is_not_used_is_listed_with_its_reason(tmp_path):
    photo_sets.folder(tmp_path)
    (tmp_path / "apple" / "10.jfif").write_bytes(b"a photo")
    for name in ("apple/new.PSD", "loose.png", ".hidden/x.png", ".hidden/deeper/y.jpg", ".hidden/index",
                 "apple/.cache/z.png", "notes", "apple/.DS_Store", "apple/Thumbs.db"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    listing = list_photos(DataConfig("folder", str(tmp_path)))
    assert "apple/10.jfif" in set(listing.frame["image_path"])
    assert len(listing.frame) == 31
    assert sorted(listing.left_out[["image_path", "reason"]].itertuples(index=False, name=None)) == [
        (".hidden", "in a hidden folder: 2 photos"),
        ("apple/.cache", "in a hidden folder: 1 photo"),
        ("apple/new.PSD", "not a photo's ending: .psd"),
        ("loose.png", "not in a class folder"),
        ("notes", "not a photo's ending: none"),
    ]


def test_class_folders_may_be_links(tmp_path):
    photo_sets.folder(tmp_path / "photos")
    photo_sets.write_photo(tmp_path / "elsewhere" / "0.png", (9, 9, 9), 5)
    (tmp_path / "photos" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "photos" / "apple" / "round").symlink_to(tmp_path / "photos")
    frame = load(DataConfig("folder", str(tmp_path / "photos")))
    assert frame["label"].value_counts().to_dict() == {"apple": 10, "leaf": 10, "sky": 10, "linked": 1}


def test_tables_as_other_programs_write_them(tmp_path):
    dogs = photo_sets.dog_breed(tmp_path / "dogs")
    text = (dogs / "labels.csv").read_text().replace("apple000,", "apple000.jpg,").replace("sky009,sky\n", "")
    (dogs / "labels.csv").write_text(text, encoding="utf-8-sig")
    listing = list_photos(DataConfig("dog-breed", str(dogs)))
    assert all((dogs / path).is_file() for path in listing.frame["image_path"])
    assert (len(listing.frame), listing.not_listed) == (29, 1)
    food = photo_sets.food_101(tmp_path / "food")
    table = food / "meta" / "train.txt"
    table.write_text(table.read_text(), encoding="utf-8-sig")
    listing = list_photos(DataConfig("food-101", str(food)))
    assert sorted(listing.frame["label"].unique()) == ["apple", "leaf", "sky"]
    assert listing.not_listed == 0
    table.write_bytes(b"caf\xe9/1\n")
    with pytest.raises(InvalidRequest, match=r"Expected UTF-8 text in .*train\.txt"):
        load(DataConfig("food-101", str(food)))


def test_absolute_paths_of_a_table_become_relative(tmp_path):
    root = photo_sets.folder(tmp_path / "photos", 2)
    table = tmp_path / "table.csv"
    rows = [f"{root}/apple/0.png,a,Training", "leaf/0.png,b,"]
    table.write_text("image_path,label,split\n" + "\n".join(rows) + "\n", encoding="utf-8-sig")
    config = DataConfig("csv", str(root), csv=str(table))
    listing = list_photos(config)
    assert listing.frame["image_path"].tolist() == ["apple/0.png", "leaf/0.png"]
    assert listing.not_listed == 2
    table.write_text(f"image_path,label\n{tmp_path}/elsewhere.png,a\n")
    with pytest.raises(InvalidRequest, match="Expected paths below --data-dir"):
        load(config)


def test_a_table_does_not_lead_out_of_the_data_folder(tmp_path):
    table = tmp_path / "table.csv"
    (tmp_path / "photos").mkdir()
    for path in ("../private/0.jpg", "apple/../../0.jpg", f"{tmp_path}/photos/../0.jpg"):
        table.write_text(f"image_path,label\n{path},apple\n")
        with pytest.raises(InvalidRequest, match=r"Expected paths below --data-dir .* without '\.\.'; received "):
            load(DataConfig("csv", str(tmp_path / "photos"), csv=str(table)))


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
    with pytest.raises(
        InvalidRequest, match="Expected one of food-101, dog-breed, folder, csv, huggingface, tfds; received"
    ):
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
