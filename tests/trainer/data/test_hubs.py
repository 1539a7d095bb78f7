"""Data sets of Hugging Face's library and of TFDS: no dependencies, so that most of it is skipped without them."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from rich.console import Console

from classifier.errors import InvalidRequest, NotFound
from classifier.registry.manifest import InputSpec
from trainer.data.hubs import local_photos
from trainer.data.loaders import list_photos
from trainer.data.preparation import check_dataset
from trainer.run.sections import DataConfig

CONSOLE = Console(file=io.StringIO())
LABELS = ["cat", "dog"]


@pytest.fixture(autouse=True)
def mirror(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("POINTER_MIRROR", str(tmp_path / "mirror"))
    return tmp_path / "mirror"


def _photo(number: int, kind: str = "JPEG") -> bytes:
    written = io.BytesIO()
    pixels = np.random.default_rng(number).integers(0, 256, (40, 40, 3), np.uint8)
    Image.fromarray(pixels).save(written, kind)
    return written.getvalue()


def _rows(frame: pd.DataFrame) -> list[tuple[str, str]]:
    return sorted(zip(frame["label"], frame["split"], strict=True))


@pytest.mark.parametrize(("dataset", "module"), [("huggingface", "datasets"), ("tfds", "tensorflow-datasets")])
def test_without_the_library_it_is_told_which_one(dataset, module, tmp_path):
    if importlib.util.find_spec(module.replace("-", "_")):
        pytest.skip(f"{module} is installed")
    with pytest.raises(NotFound, match=rf"reads --dataset {dataset}; it is not installed: pip install {module}"):
        list_photos(DataConfig(dataset, str(tmp_path)))
    with pytest.raises(NotFound, match="Expected a folder at --data-dir"):
        list_photos(DataConfig(dataset, str(tmp_path / "none")))


@pytest.fixture
def saved(tmp_path) -> Path:
    datasets = pytest.importorskip("datasets", reason="Hugging Face's library datasets is not installed")
    features = datasets.Features({"photo": datasets.Image(), "kind": datasets.ClassLabel(names=LABELS)})

    def part(first: int, count: int, kind: str) -> object:
        images = [{"bytes": _photo(first + each, kind), "path": None} for each in range(count)]
        return datasets.Dataset.from_dict({"photo": images, "kind": [each % 2 for each in range(count)]}, features)

    whole = datasets.DatasetDict({"train": part(0, 8, "JPEG"), "test": part(20, 4, "PNG")})
    whole.save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


def test_what_hugging_face_saved_is_read_byte_for_byte(saved, mirror):
    config = DataConfig("huggingface", str(saved), validation_share=0.25)
    photos, not_listed = check_dataset(config, InputSpec(32, 32), CONSOLE)
    assert not_listed == 0
    assert not len(photos.rejected)
    assert _rows(photos.frame) == sorted(
        [(label, split) for label in LABELS for split in ["train"] * 3 + ["validation"] + ["test"] * 2]
    )
    folder = local_photos(config)
    assert folder.is_relative_to(mirror)
    assert (folder / "train/0000003.jpg").read_bytes() == _photo(3)
    assert (folder / "test/0000001.png").read_bytes() == _photo(21, "PNG")
    assert photos.frame.set_index("image_path").loc["train/0000003.jpg", "label"] == "dog"
    # What is there is not written again.
    before = (folder / "photos.csv").stat().st_mtime_ns
    assert local_photos(config) == local_photos(DataConfig("huggingface", str(folder))) == folder
    assert (folder / "photos.csv").stat().st_mtime_ns == before


def test_a_data_set_that_has_changed_is_written_again(saved):
    import datasets

    config = DataConfig("huggingface", str(saved))
    assert len(list_photos(config).frame) == 12
    fewer = datasets.load_from_disk(str(saved))["train"].select(range(6))
    fewer.save_to_disk(str(saved.parent / "fewer"))
    for path in sorted(saved.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    saved.rmdir()
    (saved.parent / "fewer").rename(saved)
    frame = list_photos(config).frame
    assert len(frame) == 6
    assert set(frame["split"]) == {"train", "validation", "test"}


def test_columns_and_splits_that_are_not_clear_are_told(saved):
    import datasets

    found = datasets.load_from_disk(str(saved))
    two = found["train"].add_column("second", found["train"]["kind"])
    two.cast_column("second", datasets.ClassLabel(names=LABELS)).save_to_disk(str(saved.parent / "two"))
    with pytest.raises(InvalidRequest, match=r"one column of ClassLabel .* found kind, second .* --label-column"):
        list_photos(DataConfig("huggingface", str(saved.parent / "two")))
    named = list_photos(DataConfig("huggingface", str(saved.parent / "two"), label_column="second"))
    assert len(named.frame) == 8
    datasets.DatasetDict({"train": found["train"], "extra": found["test"]}).save_to_disk(str(saved.parent / "extra"))
    with pytest.raises(InvalidRequest, match=r"Expected the splits train, validation and test .* received extra"):
        list_photos(DataConfig("huggingface", str(saved.parent / "extra")))
    with pytest.raises(InvalidRequest, match="An imagefolder with a folder a class is --dataset folder"):
        list_photos(DataConfig("huggingface", str(saved.parent)))


def test_a_photo_without_a_label_is_left_out(tmp_path):
    datasets = pytest.importorskip("datasets", reason="Hugging Face's library datasets is not installed")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    images = [{"bytes": _photo(each), "path": f"photo {each}.jpeg"} for each in range(6)]
    labels = ["cat", "dog", "cat", "dog", None, "cat"]
    datasets.Dataset.from_dict({"image": images, "label": labels}, features).save_to_disk(str(tmp_path / "saved"))
    listing = list_photos(DataConfig("huggingface", str(tmp_path / "saved")))
    assert sorted(listing.frame["label"]) == ["cat", "cat", "cat", "dog", "dog"]
    assert list(listing.left_out["reason"]) == ["no label"]
    assert listing.left_out["image_path"][0].endswith(".jpeg")


def test_what_tfds_prepared_is_read_byte_for_byte(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets", reason="TensorFlow Datasets is not installed")
    features = tfds.features.FeaturesDict(
        {"image": tfds.features.Image(shape=(None, None, 3)), "label": tfds.features.ClassLabel(names=LABELS)}
    )
    (tmp_path / "photos").mkdir()

    def examples(first: int, count: int) -> list[tuple[int, dict[str, str]]]:
        found = []
        for number in range(first, first + count):
            path = tmp_path / f"photos/{number}.jpg"
            path.write_bytes(_photo(number))
            found.append((number, {"image": str(path), "label": LABELS[number % 2]}))
        return found

    tfds.dataset_builders.store_as_tfds_dataset(
        "mine", "1.0.0", features, {"train": examples(0, 8), "test": examples(20, 4)}, data_dir=str(tmp_path)
    )
    config = DataConfig("tfds", str(tmp_path / "mine/1.0.0"))
    photos, _ = check_dataset(config, InputSpec(32, 32), CONSOLE)
    assert len(photos.frame) == 12
    written = {path.read_bytes() for path in local_photos(config).rglob("*.jpg")}
    assert written == {_photo(number) for number in [*range(8), *range(20, 24)]}


def test_features_that_are_code_are_refused(tmp_path):
    pytest.importorskip("tensorflow_datasets", reason="TensorFlow Datasets is not installed")
    described = {"pythonClassName": "os.path.Feature", "featuresDict": {"features": {}}}
    (tmp_path / "features.json").write_text(json.dumps(described))
    with pytest.raises(InvalidRequest, match=r"received os\.path\.Feature, which is code"):
        list_photos(DataConfig("tfds", str(tmp_path)))
