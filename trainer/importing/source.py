"""What somebody imports: which kind of model, where its file is, and what lies beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from classifier.errors import InvalidRequest, NotFound

Kind = Literal["tflite", "keras", "hdf5", "saved-model"]
SAVED_MODEL = "saved_model.pb"
SUFFIXES: dict[str, Kind] = {".tflite": "tflite", ".keras": "keras", ".h5": "hdf5", ".hdf5": "hdf5"}
LABEL_FILES = ("labels.txt", "dict.txt", "label.txt")
"""Beside a model: Teachable Machine's and Custom Vision's name, AutoML Vision Edge's, and a frequent one."""
TEACHABLE = {"model.tflite", "model_unquant.tflite", "keras_model.h5", "model.savedmodel"}
"""The names that Teachable Machine gives, always beside a labels.txt of numbered lines."""
PREFERRED = ("keras_model.h5", "model_unquant.tflite", "model.tflite")
HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = b"PK\x03\x04"
PICKLE = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
LARGEST = 4 << 30


@dataclass(frozen=True)
class Source:
    """A model as it came."""

    kind: Kind
    path: Path
    """Its file, or a SavedModel's folder."""
    labels: Path | None
    """The label file beside it."""
    teachable: bool
    """Whether it is an export of Teachable Machine, whose scaling and cut are known."""

    @property
    def sha256(self) -> str:
        """Of its file, or of all files of its folder with their names."""
        digest = hashlib.sha256()
        for path in files_of(self.path):
            if path != self.path:
                digest.update(f"{path.relative_to(self.path).as_posix()}\0{path.stat().st_size}\0".encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


def source_of(path: Path) -> Source:
    """Return what is at a path: a model's file, a SavedModel's folder, or a folder with one of them, as tools export.

    Raises:
        NotFound: there is nothing, or no model in the folder.
        InvalidRequest: it is something else, or several models.
    """
    if not path.exists():
        raise NotFound(f"Expected a model at {path}; there is none.")
    found = _in_folder(path) if path.is_dir() and not (path / SAVED_MODEL).is_file() else path
    size = sum(file.stat().st_size for file in files_of(found))
    if size > LARGEST:
        raise InvalidRequest(f"Expected a model of at most {LARGEST:,} bytes; {found} has {size:,}.")
    beside = [found.parent / name for name in LABEL_FILES]
    labels = next((each for each in beside if each.is_file()), None)
    teachable = found.name in TEACHABLE and labels is not None and labels.read_bytes()[:2] in (b"0 ", b"0\t")
    return Source(_kind(found), found, labels, teachable)


def files_of(path: Path) -> Iterator[Path]:
    """Yield the files of a model, sorted; links are refused: they lead out of it.

    Raises:
        InvalidRequest: there is one.
    """
    for each in [path] if path.is_file() else sorted(path.rglob("*")):
        if each.is_symlink() and each != path:
            raise InvalidRequest(f"Expected a folder of plain files; {each} is a link.")
        if each.is_file():
            yield each


def _in_folder(folder: Path) -> Path:
    models = [each for each in sorted(folder.iterdir()) if each.suffix.lower() in SUFFIXES or _is_saved_model(each)]
    if len(models) > 1:
        models = [folder / name for name in PREFERRED if folder / name in models][:1] or models
    if not models:
        raise NotFound(f"Expected a .tflite, .keras or .h5 file, or {SAVED_MODEL}, in {folder}; there is none.")
    if len(models) > 1:
        raise InvalidRequest(
            f"Expected one model in {folder}; found {', '.join(each.name for each in models[:5])}. Name the one that "
            "is meant."
        )
    return models[0]


def _is_saved_model(path: Path) -> bool:
    return path.is_dir() and (path / SAVED_MODEL).is_file()


def _kind(path: Path) -> Kind:
    """Tell a model by its first bytes, as far as they tell it; its name may be anything."""
    if path.is_dir():
        return "saved-model"
    with path.open("rb") as file:
        begin = file.read(16)
    if begin[4:8] == b"TFL3":
        return "tflite"
    if begin.startswith(HDF5):
        return "hdf5"
    if begin.startswith(ZIP):
        if path.suffix.lower() == ".keras":
            return "keras"
        raise InvalidRequest(
            f"Expected a model; {path.name} is an archive: unpack it, and name the model or its folder."
        )
    if begin.startswith(PICKLE) or path.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth", ".joblib"):
        raise InvalidRequest(
            f"Expected a .tflite, .keras or HDF5 file, or a SavedModel; {path.name} is a pickle, which is a program: "
            "it is not opened. Export the model to LiteRT where it was made (PyTorch: litert-torch)."
        )
    if path.name == SAVED_MODEL:
        raise InvalidRequest(f"Expected a SavedModel's folder; received its {SAVED_MODEL}. Name {path.parent}.")
    raise InvalidRequest(
        f"Expected a .tflite, .keras or HDF5 (.h5) file, or a SavedModel's folder; {path.name} is none of them. "
        "ONNX, Core ML and frozen .pb files are to be exported to one of these first."
    )
