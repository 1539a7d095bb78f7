"""Class subsets: which labels and photos are taken, that the draws repeat, and what is refused."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from classifier.errors import InvalidRequest
from classifier.registry.manifest import InputSpec
from tests.support import photo_sets
from tests.support.real_data import DATA, needs_photos
from trainer.data.listing import Listing
from trainer.data.loaders import load
from trainer.data.preparation import check_dataset
from trainer.data.subsets import at_most, chosen_classes, has_subset, keep_classes, without_subset
from trainer.main import app
from trainer.run.sections import DataConfig

LABELS = [f"label{number:02}" for number in range(20)]


def _config(**subset) -> DataConfig:
    return DataConfig("folder", ".", **subset)


def test_all_classes_are_taken_where_none_is_asked_for():
    assert chosen_classes(["b", "a", "b"], _config()) == ["a", "b"]


def test_named_classes_are_taken_sorted_and_once():
    assert chosen_classes(LABELS, _config(classes=("label07", "label03", "label07"))) == ["label03", "label07"]


def test_the_first_classes_count_in_alphabetical_order():
    assert chosen_classes(LABELS[::-1], _config(first_classes=3)) == LABELS[:3]
    assert chosen_classes(LABELS, _config(first_classes=20)) == LABELS


def test_random_classes_repeat_for_a_seed_and_smaller_draws_are_among_larger_ones():
    draws = {count: chosen_classes(LABELS, _config(random_classes=count)) for count in (2, 5, 11)}
    assert draws[11] == sorted(draws[11]) and len(set(draws[11])) == 11
    assert set(draws[2]) < set(draws[5]) < set(draws[11])
    assert chosen_classes(LABELS[::-1], _config(random_classes=11)) == draws[11]
    assert chosen_classes(LABELS, _config(random_classes=11, seed=8)) != draws[11]


@pytest.mark.parametrize(
    ("subset", "message"),
    [
        ({"classes": ("label3", "label07")}, r"labels of the data set in --classes; received 'label3' \(close: label"),
        ({"classes": ("LABEL07", "label03")}, r"received 'LABEL07' \(close: label07"),
        ({"classes": ("label01", "sushi")}, r"received 'sushi'; it has label00, .*label09, \.\.\."),
        ({"classes": ("label01", "label01")}, "at least two classes with --classes; received 1"),
        ({"first_classes": 1}, "at least two classes with --first-classes; received 1"),
        ({"random_classes": 0}, "at least two classes with --random-classes; received 0"),
        ({"first_classes": 21}, "at most 20 with --first-classes, as many as there are; received 21"),
        ({"random_classes": 21}, "at most 20 with --random-classes"),
        ({"classes": ("label01", "label02"), "first_classes": 2}, "received --classes and --first-classes"),
        ({"first_classes": 2, "random_classes": 2}, "received --first-classes and --random-classes"),
    ],
)
def test_what_cannot_be_chosen_is_refused(subset, message):
    with pytest.raises(InvalidRequest, match=message):
        chosen_classes(LABELS, _config(**subset))


@settings(max_examples=50)
@given(
    sizes=st.dictionaries(st.tuples(st.sampled_from("abc"), st.sampled_from(["train", "test"])), st.integers(1, 9)),
    count=st.integers(1, 9),
    seed=st.integers(0, 2**31),
)
def test_at_most_so_many_photos_of_each_class_in_each_split(sizes, count, seed):
    rows = [(f"{label}/{split}/{n}", label, split) for (label, split), size in sizes.items() for n in range(size)]
    frame = pd.DataFrame(rows, columns=["image_path", "label", "split"], dtype=object)
    capped = at_most(frame, count, seed)
    assert capped.groupby(["label", "split"]).size().to_dict() == {key: min(n, count) for key, n in sizes.items()}
    assert capped["image_path"].tolist() == [path for path, _, _ in rows if path in set(capped["image_path"])]
    pd.testing.assert_frame_equal(capped, at_most(frame, count, seed))
    assert set(at_most(frame, max(1, count - 1), seed)["image_path"]) <= set(capped["image_path"])
    assert at_most(frame, None, seed) is frame
    with pytest.raises(InvalidRequest, match="Expected --max-per-class to be 1 or more; received 0"):
        at_most(frame, 0, seed)


def test_files_without_a_class_are_reported_in_every_subset():
    columns = ["image_path", "label", "split"]
    listing = Listing(
        pd.DataFrame([("a/1.jpg", "a", None), ("b/1.jpg", "b", None)], columns=columns, dtype=object),
        pd.DataFrame(
            [
                (name, label, None, "why")
                for name, label in (("a/x", "a"), ("b/x", "b"), ("c.png", None), (".x/c", ".x"))
            ],
            columns=[*columns, "reason"],
            dtype=object,
        ),
    )
    kept = keep_classes(listing, ["a"])
    assert kept.frame["image_path"].tolist() == ["a/1.jpg"]
    assert kept.left_out["image_path"].tolist() == ["a/x", "c.png", ".x/c"]


def test_a_class_is_split_the_same_in_every_subset(tmp_path):
    root = str(photo_sets.dog_breed(tmp_path))
    whole = load(DataConfig("dog-breed", root))
    some = load(DataConfig("dog-breed", root, classes=("leaf", "sky")))
    pd.testing.assert_frame_equal(some, whole[whole["label"] != "apple"].reset_index(drop=True))
    few = load(DataConfig("dog-breed", root, first_classes=2, max_per_class=2))
    assert few.groupby(["label", "split"]).size().to_dict() == {
        ("apple", "test"): 2, ("apple", "train"): 2, ("apple", "validation"): 1,
        ("leaf", "test"): 2, ("leaf", "train"): 2, ("leaf", "validation"): 1,
    }  # fmt: skip
    assert set(few["image_path"]) <= set(whole["image_path"])


def test_photos_of_other_labels_are_passed_over_where_a_model_knows_only_some(tmp_path):
    config = DataConfig("dog-breed", str(photo_sets.dog_breed(tmp_path)), random_classes=2, max_per_class=1)
    assert has_subset(config) and not has_subset(without_subset(config))
    spec, console = InputSpec(width=16, height=16), Console(file=io.StringIO())
    photos, _ = check_dataset(without_subset(config), spec, console, classes=("leaf", "sky", "elsewhere"))
    assert photos.frame["label"].value_counts().to_dict() == {"leaf": 10, "sky": 10}


def test_datasets_counts_the_subset(tmp_path, capsys):
    root = photo_sets.dog_breed(tmp_path)
    (root / "train" / "sky003.jpg").write_bytes(b"broken")
    options = ["--classes", "apple,leaf", "--max-per-class", "3"]
    app(["datasets", "--dataset", "dog-breed", "--data-dir", str(root), *options], standalone_mode=False)
    said = capsys.readouterr().out
    assert [line.split() for line in said.splitlines()] == [
        ["class", "train", "validation", "test"],
        ["apple", "3", "1", "2"],
        ["leaf", "3", "1", "2"],
        ["2", "classes,", "12", "photos,", "0", "rejected"],
    ]


@needs_photos
def test_first_classes_follow_the_official_list():
    official = (DATA / "food-101" / "meta" / "classes.txt").read_text().split()
    half = len(official) // 2
    assert chosen_classes(official[::-1], _config(first_classes=half)) == official[:half]
