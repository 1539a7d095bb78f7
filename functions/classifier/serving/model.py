"""One loaded LiteRT file: an image array in; class probabilities, Grad-CAM heatmaps and a familiarity score out."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifier.errors import CannotExplain, Corrupt
from classifier.registry.manifest import SIGNATURE


class Output(NamedTuple):
    """What one forward pass gives."""

    probabilities: NDArray[np.float32]
    """Shape [classes], each in 0..1, summing to 1."""
    heatmaps: NDArray[np.float32] | None
    """Shape [classes, rows, columns], Grad-CAM of each class's logit, never negative; None of a file without them."""
    score: float
    """How much the image is like those that the model was trained on, 0..1; higher is more."""

    def heatmap(self, label: int) -> NDArray[np.float32]:
        """Return a label's heatmap [rows, columns].

        Raises:
            CannotExplain: the file gives none.
        """
        if self.heatmaps is None:
            raise CannotExplain("Expected a file that gives heatmaps; this one gives none. Explain it by occlusion.")
        heatmap: NDArray[np.float32] = self.heatmaps[label]
        return heatmap


class Model:
    """A LiteRT interpreter with its arrays allocated. Not thread-safe: one thread at a time may call `run`.

    Args:
        content: the bytes of a ``model.tflite``. They are not copied; the model keeps them alive.
        threads: how many CPU threads one forward pass may use.

    Raises:
        Corrupt: the bytes are not a LiteRT file, or its signature is not Pointer's: ``image`` uint8 [1, H, W, 3]
            -> ``probabilities`` float32 [1, N] and, where the file has them, ``heatmaps`` float32 [1, N, h, w] and
            ``score`` float32 [1, 1]. Without it the score is the largest probability.
    """

    def __init__(self, content: bytes, *, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        try:
            self._interpreter = Interpreter(model_content=content, num_threads=threads)
            # The runner would do it at the first photo: a file that cannot be run is to be found out here.
            self._interpreter.allocate_tensors()
            self._runner = self._interpreter.get_signature_runner(SIGNATURE)
        except (ValueError, RuntimeError) as error:
            raise Corrupt(f"Expected a LiteRT file with the signature {SIGNATURE!r}; received {error}") from error
        inputs, outputs = self._runner.get_input_details(), self._runner.get_output_details()
        image = _detail(inputs, "image", np.uint8, 4)
        probabilities = _detail(outputs, "probabilities", np.float32, 2)
        self.has_heatmaps = "heatmaps" in outputs
        if self.has_heatmaps:
            _detail(outputs, "heatmaps", np.float32, 4)
        self.has_score = "score" in outputs
        if self.has_score:
            _detail(outputs, "score", np.float32, 2)
        _, self.height, self.width, _ = (int(n) for n in image["shape"])
        self.classes = int(probabilities["shape"][1])

    def run(self, image: NDArray[np.uint8]) -> Output:
        """Classify one image: uint8 [H, W, 3], RGB, exactly the model's input size.

        Raises:
            ValueError: another shape or type than the model's input.
        """
        expected = (self.height, self.width, 3)
        if image.shape != expected or image.dtype != np.uint8:
            raise ValueError(f"Expected a uint8 array of shape {expected}; received {image.dtype} {image.shape}.")
        result = self._runner(image=image[np.newaxis])
        probabilities = result["probabilities"][0]
        score = result["score"][0, 0] if self.has_score else probabilities.max()
        return Output(probabilities, result["heatmaps"][0] if self.has_heatmaps else None, float(score))


def _detail(details: dict[str, Any], name: str, dtype: type, rank: int) -> Any:
    """Return the named tensor's description, or say how the file differs from Pointer's signature."""
    found = details.get(name)
    if found is None or found["dtype"] != dtype or len(found["shape"]) != rank:
        received = "nothing" if found is None else f"{found['dtype'].__name__} {list(found['shape'])}"
        raise Corrupt(
            f"Expected a LiteRT file with a tensor {name!r} of type {dtype.__name__} and rank {rank}; "
            f"received {received}."
        )
    return found
