"""Data sets that other libraries keep: what Hugging Face's `datasets` saved, and what TensorFlow Datasets prepared.

Their photos are bytes inside of tables. They are written to files once, with a `photos.csv` beside them, which is read
as `--dataset csv` reads its own; bytes are copied as they are, never encoded anew.

    <mirror>/.unpacked/<name>-<digest>/photos.csv and <split>/<number>.jpg
                                      /.source.json  of which files of the data set they were made

The libraries are no dependencies: they are used where they are installed. Nothing of a data set is executed.
"""

from __future__ import annotations

import csv
import hashlib
import importlib.util
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from rich.console import Console

from classifier.errors import InvalidRequest, NotFound
from trainer.data import layouts
from trainer.data.listing import COLUMNS, SPLIT_NAMES, TABLE, Listing
from trainer.data.mirror import local_data_dir, mirror_root
from trainer.data.walking import SUFFIXES
from trainer.run.files import read_json, write_json
from trainer.run.locks import locked
from trainer.run.progress import counting
from trainer.run.sections import DataConfig

UNPACKED, SOURCE = ".unpacked", ".source.json"
HUGGING_FACE, TFDS = "huggingface", "tfds"
ENDINGS = ((b"\xff\xd8", ".jpg"), (b"\x89PNG", ".png"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (b"II*\0", ".tif"))
"""By the first bytes of a photo whose name does not tell."""


class _Example(NamedTuple):
    """One photo of a data set."""

    content: bytes
    name: str
    """As its maker called it; "" where that is not known."""
    label: str | None


@dataclass(frozen=True)
class _Opened:
    """A data set."""

    counts: Mapping[str, int]
    """Examples by split, as the data set calls them; "" where it has none."""
    examples: Callable[[str], Iterator[_Example]]


def local_photos(config: DataConfig, console: Console | None = None) -> Path:
    """Return the folder on this machine that a data set's listing is made of: see `local_data_dir`.

    Of a data set of another library it is the folder that its photos are written to, which is done anew where the data
    set has changed.

    Raises:
        NotFound: there is no such folder, or the library is not installed.
        InvalidRequest: it holds no such data set, or it does not tell photo from label.
        Also what `local_data_dir` raises.
    """
    folder = local_data_dir(config.data_dir, console)
    if config.dataset not in _READERS or (folder / SOURCE).is_file():
        return folder
    if not folder.is_dir():
        raise NotFound(f"Expected a folder at --data-dir {config.data_dir}; there is none.")
    made_of = _described(folder, config)
    digest = hashlib.sha256(f"{config.dataset} {folder.resolve()}".encode()).hexdigest()[:8]
    target = mirror_root() / UNPACKED / f"{folder.resolve().name}-{digest}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with locked(
        target.with_suffix(".lock"), busy=f"Another process writes the photos of {folder}: wait until it ends."
    ):
        if not (target / SOURCE).is_file() or read_json(target / SOURCE) != made_of:
            _write(_open(config, folder), target, made_of, console or Console(stderr=True))
    return target


def listing(config: DataConfig) -> Listing:
    """List the photos of `local_photos`, which `config` names as its data folder."""
    path, label, split = COLUMNS
    return layouts.csv(replace(config, csv=None, image_column=path, label_column=label, split_column=split))


def _described(folder: Path, config: DataConfig) -> dict[str, Any]:
    """Return what tells a data set from another one in the same place: names, sizes and times of its files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    states = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    columns = [config.image_column, config.label_column]
    return {"columns": columns, "files": [[name, state.st_size, state.st_mtime_ns] for name, state in states]}


def _write(opened: _Opened, target: Path, made_of: dict[str, Any], console: Console) -> None:
    """Write all photos and their table; the folder appears when it is complete."""
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with (
        (partial / TABLE).open("w", newline="", encoding="utf-8") as file,
        counting(console, "writing photos", sum(opened.counts.values())) as step,
    ):
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for split in opened.counts:
            folder = partial / (split or "photos")
            folder.mkdir()
            for number, example in enumerate(opened.examples(split)):
                path = folder / f"{number:07}{_ending(example)}"
                path.write_bytes(example.content)
                table.writerow([path.relative_to(partial).as_posix(), example.label or "", SPLIT_NAMES.get(split, "")])
                step()
    write_json(partial / SOURCE, made_of)
    shutil.rmtree(target, ignore_errors=True)
    partial.rename(target)


def _open(config: DataConfig, folder: Path) -> _Opened:
    module, package, read = _READERS[config.dataset]
    if importlib.util.find_spec(module) is None:
        raise NotFound(
            f"Expected the library {package}, which reads --dataset {config.dataset}; it is not installed: "
            f"pip install {package}"
        )
    opened = read(config, folder)
    unknown = [split for split in opened.counts if split and split.lower() not in SPLIT_NAMES]
    if unknown:
        raise InvalidRequest(
            f"Expected the splits train, validation and test in {folder}; received {', '.join(unknown)}. Save it again "
            "without them, or under these names."
        )
    return _Opened({split.lower(): count for split, count in opened.counts.items()}, opened.examples)


def _hugging_face(config: DataConfig, folder: Path) -> _Opened:
    """Open what ``save_to_disk`` wrote."""
    import datasets

    if not any((folder / name).is_file() for name in ("dataset_dict.json", "state.json")):
        raise InvalidRequest(
            f"Expected a data set that `save_to_disk` of Hugging Face's datasets wrote in {folder}. An imagefolder "
            "with a folder a class is --dataset folder."
        )
    try:
        found = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidRequest(
            f"The data set in {folder} cannot be read: {' '.join(str(error).split())[:300]}"
        ) from error
    parts = dict(found) if isinstance(found, datasets.DatasetDict) else {"": found}
    features = next(iter(parts.values())).features
    photo = _column(config.image_column, "image", features, datasets.Image, folder)
    label = _column(config.label_column, "label", features, datasets.ClassLabel, folder)
    names = features[label].names if isinstance(features[label], datasets.ClassLabel) else None

    def examples(split: str) -> Iterator[_Example]:
        rows = next(rows for name, rows in parts.items() if name.lower() == split)
        rows = rows.select_columns([photo, label]).cast_column(photo, datasets.Image(decode=False))
        for row in rows:
            image, number = row[photo] or {}, row[label]
            content, name = image.get("bytes"), image.get("path") or ""
            if content is None and name and Path(name).is_file():
                content = Path(name).read_bytes()
            if content is None:
                raise InvalidRequest(
                    f"Expected the bytes of each photo in {folder}; {name or 'one'} is named and not there. Save the "
                    "data set where its photos are, after dataset.cast_column(...) and map embedded them."
                )
            yield _Example(content, name, _label(number, names))

    return _Opened({split: len(rows) for split, rows in parts.items()}, examples)


def _tfds(config: DataConfig, folder: Path) -> _Opened:
    """Open the folder of a version of a data set that TFDS has prepared."""
    described = folder / "features.json"
    if not described.is_file():
        raise InvalidRequest(
            "Expected the folder of a version that TFDS has prepared, with features.json, such as food101/2.0.0; "
            f"{folder} has none."
        )
    foreign = [
        kind for kind in _kinds(json.loads(described.read_bytes())) if not kind.startswith("tensorflow_datasets.")
    ]
    if foreign:
        raise InvalidRequest(f"Expected features of TFDS itself in {described}; received {foreign[0]}, which is code.")
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(str(folder))
    features = builder.info.features
    photo = _column(config.image_column, "image", features, tfds.features.Image, folder)
    label = _column(config.label_column, "label", features, tfds.features.ClassLabel, folder)
    names = features[label].names if isinstance(features[label], tfds.features.ClassLabel) else None

    def examples(split: str) -> Iterator[_Example]:
        own = next(name for name in builder.info.splits if name.lower() == split)
        rows = builder.as_dataset(split=own, decoders={photo: tfds.decode.SkipDecoding()}, shuffle_files=False)
        for row in tfds.as_numpy(rows):
            number = row[label]
            yield _Example(
                bytes(row[photo]), "", _label(number.decode() if isinstance(number, bytes) else number, names)
            )

    return _Opened({name: split.num_examples for name, split in builder.info.splits.items()}, examples)


def _column(asked: str, usual: str, features: Mapping[str, Any], kind: type[Any], folder: Path) -> str:
    """Return the column of photos or of labels: the one that was asked for, or the only one of its kind."""
    if asked in features:
        return asked
    found = [name for name, feature in features.items() if isinstance(feature, kind)]
    if len(found) == 1:
        return found[0]
    raise InvalidRequest(
        f"Expected one column of {kind.__name__} in {folder}; found {', '.join(found) or 'none'} among "
        f"{', '.join(features)}. Name it with --{usual}-column."
    )


def _label(value: Any, names: list[str] | None) -> str | None:
    """Return a label; None of what has none, as the test photos of a competition."""
    if value is None or (names is not None and not 0 <= int(value) < len(names)):
        return None
    return str(value) if names is None else str(names[int(value)])


def _ending(example: _Example) -> str:
    named = PurePosixPath(example.name.replace(os.sep, "/")).suffix.lower()
    if named in SUFFIXES:
        return named
    if example.content[:4] == b"RIFF":
        return ".webp"
    return next((ending for start, ending in ENDINGS if example.content.startswith(start)), ".jpg")


def _kinds(features: Any) -> Iterator[str]:
    """Yield the classes that a description of features names."""
    if isinstance(features, dict):
        if isinstance(name := features.get("pythonClassName"), str):
            yield name
        for each in features.values():
            yield from _kinds(each)
    elif isinstance(features, list):
        for each in features:
            yield from _kinds(each)


_READERS: dict[str, tuple[str, str, Callable[[DataConfig, Path], _Opened]]] = {
    HUGGING_FACE: ("datasets", "datasets", _hugging_face),
    TFDS: ("tensorflow_datasets", "tensorflow-datasets", _tfds),
}
