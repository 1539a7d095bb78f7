"""One foreign model as LiteRT: its graph, what it takes and gives, its labels, and the files that can serve of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from classifier.errors import InvalidRequest
from classifier.registry.manifest import MAX_SIDE, Resize
from trainer.importing.compose import ImageInput, compose
from trainer.importing.graph import Graph
from trainer.importing.isolated import run_isolated
from trainer.importing.labels import fitted_labels, labels_in, read_labels
from trainer.importing.metadata import read_metadata
from trainer.importing.quantise import CALIBRATION
from trainer.importing.scaling import CANDIDATES, PIXELS, Scaling, scaling_of
from trainer.importing.source import Source
from trainer.importing.tail import Head, Tail, head_of, tail_of

Outputs = Literal["auto", "probabilities", "logits"]
MOST_CLASSES = 100_000
TRIAL_WITHIN = 300.0
"""Seconds."""


@dataclass(frozen=True)
class Told:
    """What is told of a model besides its file."""

    labels: Path | None = None
    scaling: str | None = None
    size: tuple[int, int] | None = None
    """Width and height."""
    resize: Resize | None = None
    outputs: Outputs = "auto"


@dataclass(frozen=True)
class Foreign:
    """A model that was read."""

    source: Source
    content: bytes
    """A LiteRT file: its own, or converted to float32."""
    image: ImageInput
    tail: Tail
    labels: tuple[str, ...]
    scaling: Scaling | None
    """By an option or by the file; None where nobody tells."""
    scaling_from: str
    """Who tells."""
    resize: Resize
    notes: list[str] = field(default_factory=list)
    """What was assumed."""

    @property
    def candidates(self) -> list[Scaling]:
        """The scalings to try on photos."""
        usual = [*CANDIDATES.values()]
        if Graph(self.content).quantisation(Graph(self.content).inputs[0]) is not None:
            usual.insert(0, PIXELS)
        return usual if self.scaling is None or self.scaling in usual else [self.scaling, *usual]

    def composed(self, scaling: Scaling, temperature: float = 1.0, content: bytes | None = None) -> bytes:
        """Return the file that serves, of `content` or of another variant."""
        graph = Graph(content or self.content)
        tail = self.tail if content is None else _tail(graph, "auto")
        return compose(graph, self.image, tail, scaling, temperature)

    def try_composed(self, folder: Path, scaling: Scaling) -> bytes:
        """Compose a file, and run it once where a crash harms nobody.

        Raises:
            InvalidRequest, Corrupt: it cannot be run.
        """
        content = self.composed(scaling)
        file = folder / "trial.tflite"
        file.write_bytes(content)
        said = run_isolated("trainer.importing.trial", [str(file)], folder, longest=TRIAL_WITHIN)
        if said["varies"] < 1e-9:
            self.notes.append("it says the same of noise and of a grey photo")
        return content

    def variants(
        self, folder: Path, scaling: Scaling, photos: NDArray[np.uint8], names: Sequence[str]
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Quantise the converted network; returns the files and why others could not be made.

        Args:
            folder: where to work; its float32 file is there.
            scaling: from pixels to what the network takes.
            photos: uint8 [n, H, W, 3], from which int8 learns the range of each layer.
            names: of the variants.
        """
        np.save(folder / CALIBRATION, photos)
        options = json.dumps({"variants": list(names), "scaling": scaling.name})
        said = run_isolated("trainer.importing.quantise", [options], folder)
        files = {name: (folder / f"{name}.tflite").read_bytes() for name in names if name not in said["failures"]}
        return files, dict(said["failures"])


def read_foreign(source: Source, told: Told, folder: Path) -> Foreign:
    """Read a model: its graph, its input and output, its labels and, where something tells it, its scaling.

    Args:
        source: the model.
        told: options.
        folder: where to work.

    Raises:
        NotFound: the label file is missing.
        InvalidRequest: the model, or an option, cannot be used; says why.
    """
    if source.kind == "tflite":
        content = source.path.read_bytes()
    else:
        options = json.dumps({"size": told.size})
        run_isolated("trainer.importing.convert", [source.kind, str(source.path.absolute()), options], folder)
        content = (folder / "float32.tflite").read_bytes()
    graph = Graph(content)
    image, tail = _image(graph, told), _tail(graph, told.outputs)
    metadata = read_metadata(content, graph.model)
    if told.labels is None and metadata.labels is None and source.labels is None:
        raise InvalidRequest(
            "Expected --labels, a label a line in the order of the outputs: the file does not tell them."
        )
    if told.labels is not None:
        found = read_labels(told.labels)
    else:
        found = labels_in(metadata.labels) if metadata.labels is not None else read_labels(source.labels or Path())
    labels, notes = fitted_labels(found, tail.classes)
    scaling, by = _scaling(graph, told, metadata.scaling, source)
    resize: Resize = told.resize or ("crop" if source.teachable else "stretch")
    return Foreign(source, content, image, tail, labels, scaling, by, resize, notes)


def _image(graph: Graph, told: Told) -> ImageInput:
    """Return what a graph takes.

    Raises:
        InvalidRequest: it takes no image, or gives no value for each class.
    """
    if _is_own(graph):
        raise InvalidRequest(
            "Expected a model made elsewhere; this file is one of Pointer's own, which has probabilities, score and "
            "heatmaps already. Publish the run or the bundle that it is from: `admin_cli publish runs/food`; of a "
            "store, `admin_cli pull v7 --out FOLDER` first."
        )
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        raise InvalidRequest(
            f"Expected a classifier of one image in and one output; received {len(graph.inputs)} inputs and "
            f"{len(graph.outputs)} outputs. Detectors, segmentations and networks with other inputs cannot be imported."
        )
    (tensor,) = graph.inputs
    shape, dtype = graph.shape(tensor), graph.dtype(tensor)
    if (
        len(shape) != 4
        or shape[0] != 1
        or 3 not in (shape[1], shape[3])
        or dtype not in (np.float32, np.uint8, np.int8)
    ):
        raise InvalidRequest(
            "Expected an input of images in colour, float32, uint8 or int8 [1, height, width, 3] or [1, 3, height, "
            f"width]; received {dtype.__name__} {list(shape)}. Networks of other inputs cannot be imported."
        )
    if graph.is_dynamic(tensor):
        raise InvalidRequest(
            "Expected an input of one size; this file takes images of any size. Export it with the size that it was "
            "trained with."
        )
    if dtype is np.int8 and graph.quantisation(tensor) is None:
        raise InvalidRequest("Expected scale and zero point of the int8 input; the file has none. Export it again.")
    last = shape[3] == 3
    height, width = shape[1:3] if last else shape[2:4]
    if told.size is not None and told.size != (width, height):
        raise InvalidRequest(f"Expected --size {width}x{height}, which the file has; received another.")
    if not (1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE):
        raise InvalidRequest(f"Expected images of at most {MAX_SIDE} pixels a side; received {width} x {height}.")
    (output,) = graph.outputs
    given = graph.shape(output)
    classes = given[-1] if given else 0
    if not 1 <= classes <= MOST_CLASSES or int(np.prod(given)) != classes:
        raise InvalidRequest(f"Expected an output of one value for each label, [1, N]; received {list(given)}.")
    if graph.dtype(output) is not np.float32 and graph.quantisation(output) is None:
        raise InvalidRequest(f"Expected an output of numbers; received {graph.dtype(output).__name__} without a scale.")
    return ImageInput(height, width, not last)


def _is_own(graph: Graph) -> bool:
    """Return whether a file has the signature of a file that is served here."""
    names = {_text(each.name) for signature in graph.model.signatureDefs or () for each in signature.outputs or ()}
    return "probabilities" in names and bool(names & {"heatmaps", "score"})


def _text(name: bytes | str | None) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _tail(graph: Graph, outputs: Outputs) -> Tail:
    """Return how a graph ends, as far as it tells itself, or as it is told.

    Raises:
        InvalidRequest: it cannot be told by the graph, or its labels do not exclude each other.
    """
    tail = tail_of(graph)
    if outputs == "probabilities" and tail.ending != "softmax" and tail.classes > 1:
        return Tail("unknown", graph.outputs[0], tail.classes, None, "it gives probabilities without their logits")
    if outputs == "logits" and tail.ending != "sigmoid":
        head = head_of(graph, graph.outputs[0])
        if not isinstance(head, Head):
            return Tail("logits", graph.outputs[0], tail.classes, None, head)
        return Tail("logits", graph.outputs[0], tail.classes, head)
    if tail.ending == "sigmoid" and tail.classes > 1 and outputs == "auto":
        raise InvalidRequest(
            "Expected one label a photo; this network ends in a sigmoid for each label, as those do that give several. "
            "--outputs logits takes what goes into the sigmoids as the logits of labels of which one is right."
        )
    if tail.ending == "unknown":
        raise InvalidRequest(
            f"Expected a file that ends in logits or a softmax; {tail.why_not}. Tell --outputs probabilities or "
            "--outputs logits."
        )
    if tail.classes == 1 and tail.ending != "sigmoid":
        raise InvalidRequest("Expected a sigmoid behind a single output; there is none: this is no classifier.")
    return replace(tail)


def _scaling(graph: Graph, told: Told, found: Scaling | None, source: Source) -> tuple[Scaling | None, str]:
    """Return the scaling and who tells it.

    Raises:
        InvalidRequest: the option is none.
    """
    (tensor,) = graph.inputs
    quantised = graph.dtype(tensor) is not np.float32
    if told.scaling is not None:
        scaling = scaling_of(told.scaling)
        if scaling.is_pixels and not quantised:
            raise InvalidRequest("Expected --scaling pixels of an input of uint8 or int8; this one is float32.")
        if not scaling.is_pixels and quantised and graph.quantisation(tensor) is None:
            raise InvalidRequest("Expected --scaling pixels: the input is uint8 without a scale.")
        return scaling, "--scaling"
    if quantised:
        return PIXELS, "the file's input type"
    if found is not None:
        return found, "the file's metadata"
    if source.teachable:
        return CANDIDATES["-1..1"], "Teachable Machine's rule"
    return None, ""
