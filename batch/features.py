"""What a network sees in photos: the features behind its pooling, which the file computes on the way to its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from batch.listing import Photo, read
from classifier.errors import NotFound, PointerError, Unavailable
from classifier.photo.limits import Limits
from classifier.photo.preprocessing import load_array
from classifier.quiet import quiet
from classifier.registry.manifest import MODEL_FILE, SIGNATURE, Manifest
from classifier.registry.rules import Registry

if TYPE_CHECKING:
    from numpy.typing import NDArray

POOLING = ("MEAN", "AVERAGE_POOL_2D")
"""What averages over a photo's places: the last of them in the file is the network's own."""


class FeatureExtractor:
    """Runs a version's file and returns its features. Not thread-safe.

    Args:
        content: the verified bytes of the file.
    """

    def __init__(self, content: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter

        with quiet():
            self._interpreter: Any = Interpreter(model_content=content, experimental_preserve_all_tensors=True)
            self._interpreter.allocate_tensors()
        self._run = self._interpreter.get_signature_runner(SIGNATURE)
        self._tensor = _pooled(self._interpreter)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the features [n] of an image, uint8 [H, W, 3], of length 1."""
        probabilities = self._run(image=image[np.newaxis])["probabilities"][0]
        if self._tensor is None:
            found = np.log(np.maximum(probabilities, 1e-9))
        else:
            found = np.asarray(self._interpreter.get_tensor(self._tensor), np.float32).ravel()
        length = float(np.linalg.norm(found))
        return np.asarray(found / (length or 1.0), np.float32)


def features_of(
    registry: Registry, manifest: Manifest, photos: Iterable[Photo], *, workers: int, limits: Limits, project: str
) -> Iterator[tuple[Photo, NDArray[np.float32] | None]]:
    """Yield the features of photos, in their order; None of one that cannot be fetched or read."""
    content = registry.read_file(manifest, MODEL_FILE)
    free = [FeatureExtractor(content) for _ in range(workers)]

    def one(photo: Photo) -> tuple[Photo, NDArray[np.float32] | None]:
        extractor = free.pop()
        try:
            return photo, extractor(load_array(read(photo, project), manifest.input, limits))
        except (NotFound, Unavailable):
            return photo, None
        except PointerError:
            return photo, None
        finally:
            free.append(extractor)

    with ThreadPoolExecutor(workers, thread_name_prefix="features") as threads:
        remaining = iter(photos)
        while some := list(islice(remaining, 16 * workers)):
            yield from threads.map(one, some)


def _pooled(interpreter: Any) -> int | None:
    """Return the tensor behind the last pooling over places: [1, n] or [1, 1, 1, n] of [1, h, w, n]."""
    found = None
    for operation in interpreter._get_ops_details():
        if operation["op_name"] in POOLING:
            before = interpreter._get_tensor_details(operation["inputs"][0], 0)["shape"]
            after = interpreter._get_tensor_details(operation["outputs"][0], 0)["shape"]
            if len(before) == 4 and after[-1] == before[-1] == np.prod(after):
                found = int(operation["outputs"][0])
    return found
