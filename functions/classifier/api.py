"""The Python API: opens a version or a bundle, and says of photos what the function would say."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import overload

import numpy as np
from PIL import Image, ImageOps

from classifier.errors import InvalidImage, InvalidRequest, NotFound, TooLarge
from classifier.photo.limits import Limits
from classifier.registry.bundle import read_bundle, read_bundle_file
from classifier.registry.catalogue import version_name
from classifier.registry.channels import CANARY, PRODUCTION, Pointer
from classifier.registry.manifest import MODEL_FILE, Manifest
from classifier.registry.rules import Registry
from classifier.serving.pool import Pool
from classifier.serving.prediction import look, overlay_of, status_of
from classifier.serving.query import PASSES, Tta, label_index
from classifier.settings import available_cpus
from classifier.storage.opening import open_store
from classifier.storage.protocol import open_source

__all__ = ["Classifier", "Photo", "Result", "open_bundle", "open_model"]

Photo = str | PathLike[str] | bytes | Image.Image
"""A photo: the path of its file, the bytes of one, or a Pillow image."""
PNG_MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
WAIT = 3600.0
"""Seconds that a thread may wait for an interpreter: it is one's own program that uses them."""


@dataclass(frozen=True)
class Result:
    """What the model says of one photo."""

    label: str
    """The most probable label."""
    confidence: float
    """Its probability, 0..1."""
    status: str
    """ "ok", or "unknown" where the photo is not like those that the model was trained on."""
    score: float
    """How much it is like them, 0..1."""
    predictions: tuple[tuple[str, float], ...]
    """The `top_k` most probable labels with their probabilities, best first."""
    probabilities: tuple[float, ...] = field(repr=False)
    """Of all labels, in the order of `Classifier.labels`; they sum to 1 but for rounding."""
    overlay: Image.Image | None = field(default=None, repr=False, compare=False)
    """The photo with its Grad-CAM laid over it, RGB, where one was asked for."""


class Classifier:
    """A version or a bundle that is ready to classify. Any thread may call it. Made by `open_model` and `open_bundle`.

    Attributes:
        labels: in the order of `Result.probabilities`.
        version: such as "v7"; None of a bundle.
        manifest: everything else that is known of it: metrics, thresholds, how it was trained.
    """

    def __init__(self, manifest: Manifest, content: bytes, *, cpus: int | None = None) -> None:
        """Build the first interpreter; `open_model` has the arguments' meaning.

        Raises:
            Corrupt: the bytes are not the model that the manifest describes.
        """
        self.manifest = manifest
        self.labels = manifest.labels
        self.version = manifest.version
        self._cpus = cpus or available_cpus()
        self._limits = Limits()
        # One thread each: several photos at a time get more done than several threads for one.
        self._pool = Pool(content, size=self._cpus, threads=1, wait=WAIT, max_waiting=1 << 20)
        pool = self._pool
        manifest.expect_fit(width=pool.width, height=pool.height, classes=pool.classes, gradcam=pool.has_heatmaps)

    def __repr__(self) -> str:
        return f"<Classifier {self.version or 'of a bundle'}, {len(self.labels)} labels>"

    @overload
    def predict(  # type: ignore[overload-overlap] # a str is an iterable of str too, and is meant as a path
        self,
        photos: Photo,
        *,
        top_k: int = ...,
        gradcam: bool | str = ...,
        tta: Tta | bool = ...,
        overlay_size: int = ...,
    ) -> Result: ...

    @overload
    def predict(
        self,
        photos: Iterable[Photo],
        *,
        top_k: int = ...,
        gradcam: bool | str = ...,
        tta: Tta | bool = ...,
        overlay_size: int = ...,
    ) -> list[Result]: ...

    def predict(
        self,
        photos: Photo | Iterable[Photo],
        *,
        top_k: int = 5,
        gradcam: bool | str = False,
        tta: Tta | bool = False,
        overlay_size: int = 512,
    ) -> Result | list[Result]:
        """Classify one photo, or several at a time on all CPUs.

        Args:
            photos: one, or any number of them: paths, bytes of files (JPEG, PNG, WebP, GIF, AVIF, HEIC, BMP, TIFF), or
                Pillow images, which are turned as their EXIF says.
            top_k: how many labels `Result.predictions` has, at least 1.
            gradcam: True explains the most probable label, a label that one: "why not pizza?"
            tta: test-time augmentation: averages over "mirror" (or True: the photo and its mirror image), "crops" (five
                of them) or "all" (the crops and their mirror images).
            overlay_size: the overlay's longest side in pixels; no photo is enlarged.

        Returns:
            A result for one photo, a list in their order for several.

        Raises:
            InvalidRequest: an argument that cannot be used, or a label that the model does not know.
            NotFound: no such file.
            InvalidImage, TooLarge: a photo that cannot be read; the message says which of several.
        """
        for name, value in (("top_k", top_k), ("overlay_size", overlay_size)):
            if value < 1:
                raise InvalidRequest(f"Expected {name} to be at least 1; received {value}.")
        if tta not in (True, False, *PASSES):
            raise InvalidRequest(
                f"Expected tta to be True, False, {', '.join(filter(None, PASSES))}; received {tta!r}."
            )
        views: Tta = tta if isinstance(tta, str) else "mirror" if tta else ""
        explained = label_index(self.labels, gradcam) if isinstance(gradcam, str) else None

        def one(photo: Photo) -> Result:
            return self._one(photo, top_k, bool(gradcam) or explained is not None, explained, views, overlay_size)

        if isinstance(photos, (str, PathLike, bytes, Image.Image)):
            return one(photos)
        with ThreadPoolExecutor(self._cpus, thread_name_prefix="photos") as threads:
            return list(threads.map(lambda item: _naming(one, *item), enumerate(photos)))

    def _one(
        self, photo: Photo, top_k: int, explain: bool, explained: int | None, tta: Tta, overlay_size: int
    ) -> Result:
        seen = look(self.manifest, self._pool, _bytes_of(photo), tta=tta, limits=self._limits)
        probabilities = tuple(float(each) for each in seen.output.probabilities)
        order = [int(each) for each in np.argsort(-seen.output.probabilities, kind="stable")]
        overlay = None
        if explain:
            index = order[0] if explained is None else explained
            overlay = overlay_of(
                self.manifest, seen.photo, seen.output.heatmap(index), seen.photo.display(overlay_size)
            )
        return Result(
            label=self.labels[order[0]],
            confidence=probabilities[order[0]],
            status=status_of(self.manifest, seen.output.score),
            score=seen.output.score,
            predictions=tuple((self.labels[each], probabilities[each]) for each in order[:top_k]),
            probabilities=probabilities,
            overlay=overlay,
        )


def open_model(
    store: str | PathLike[str], name: str, version: str = PRODUCTION, *, cpus: int | None = None
) -> Classifier:
    """Open a published version. It is read and verified once; a later promotion does not change what was opened.

    Args:
        store: ``gs://bucket/prefix`` or a folder.
        name: which of the store's models.
        version: such as "v7", "production" or "canary".
        cpus: how many photos are classified at the same time; by default as many as this process has CPUs.

    Raises:
        NotFound: no such model or version, or nothing serves in that channel.
        InvalidSetting: no address of a store, or no name of a model.
        Corrupt: it is not what was published.
        Unavailable: the store cannot be reached.
    """
    registry = Registry(open_store(str(store)), name)
    pointer = _pointer(registry, version)
    manifest = registry.manifest_at(pointer)
    return Classifier(manifest, registry.read_file(manifest, MODEL_FILE), cpus=cpus)


def open_bundle(folder: str | PathLike[str], *, cpus: int | None = None) -> Classifier:
    """Open a bundle, as `trainer export` leaves one in a run's folder, before it is published.

    Args:
        folder: the bundle's.
        cpus: see `open_model`.

    Raises:
        NotFound: no bundle is there.
        Corrupt, Refused: its files are not those that its manifest lists.
    """
    manifest = read_bundle(Path(folder))
    return Classifier(manifest, read_bundle_file(Path(folder), MODEL_FILE), cpus=cpus)


def _pointer(registry: Registry, version: str) -> Pointer:
    channel = version.strip().lower()
    if channel not in (PRODUCTION, CANARY):
        number = version_name(version)
        return Pointer(number, registry.manifest(number)[1])
    if channel == CANARY:
        return registry.canary().pointer
    channels = registry.known_channels(newest=0)
    if channels.production is None:
        raise NotFound(
            f"Expected a version of {registry.model} in production; none is promoted in {registry.store.url}. "
            "`admin_cli promote v1` promotes the first."
        )
    return channels.production


def _bytes_of(photo: Photo) -> bytes:
    """Return a photo as a file has it; an image as one without loss."""
    if isinstance(photo, bytes):
        return photo
    if not isinstance(photo, Image.Image):
        with open_source(Path(photo)) as file:
            return file.read()
    upright = ImageOps.exif_transpose(photo)
    if upright.mode not in PNG_MODES:
        upright = upright.convert("RGB")
    encoded = io.BytesIO()
    upright.save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def _naming(one: Callable[[Photo], Result], index: int, photo: Photo) -> Result:
    """Classify one of several photos, whose error says which one it is."""
    try:
        return one(photo)
    except (InvalidImage, TooLarge) as error:
        name = str(photo) if isinstance(photo, (str, PathLike)) else f"photo {index + 1}"
        raise type(error)(f"{name}: {error}") from error
