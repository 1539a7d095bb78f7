"""A program: quantises a converted network; see `trainer.importing.isolated`.

``python -m trainer.importing.quantise FOLDER OPTIONS`` reads ``float32.tflite`` of the folder, whose input and output
are those of the network, and writes ``<variant>.tflite`` beside it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trainer.export.quantisation import all_but, quantised
from trainer.importing.graph import Graph
from trainer.importing.isolated import answer
from trainer.importing.scaling import Scaling, scaling_of
from trainer.importing.tail import tail_of
from trainer.run.export_options import VariantName

CALIBRATION = "calibration.npy"
"""Photos uint8 [n, H, W, 3], in the folder."""


def main() -> None:
    """Run ``FOLDER OPTIONS``; the options are JSON."""
    folder, options = Path(sys.argv[1]), json.loads(sys.argv[2])
    answer(folder, lambda: quantise(folder, **options))


def quantise(folder: Path, *, variants: list[VariantName], scaling: str) -> dict[str, Any]:
    """Write the variants; returns why some could not be made."""
    float32 = (folder / "float32.tflite").read_bytes()
    graph = Graph(float32)
    photos, shape = np.load(folder / CALIBRATION), graph.shape(graph.inputs[0])
    # An input or output that is named as well would become int8 itself.
    kept = (*graph.inputs, *graph.outputs, *_behind_features(graph))
    operators = all_but(sorted({_name(graph, tensor) for tensor in kept}))
    failures = {}
    for variant in variants:
        try:
            content = quantised(float32, variant, operators, _scaled(photos, scaling_of(scaling), shape))
        except ValueError as error:
            failures[variant] = " ".join(str(error).split())[:200]
            continue
        (folder / f"{variant}.tflite").write_bytes(content)
    return {"failures": failures}


def _name(graph: Graph, tensor: int) -> str:
    name = graph.sub.tensors[tensor].name
    return name.decode() if isinstance(name, bytes) else str(name)


def _behind_features(graph: Graph) -> list[int]:
    """Return the tensors behind the features, which stay float32 as in `trainer.export.litert`; none without a head."""
    head = tail_of(graph).head
    if head is None:
        return []
    behind = {head.features}
    for operator in graph.sub.operators:
        if behind & {int(each) for each in operator.inputs}:
            behind |= {int(each) for each in operator.outputs}
    return sorted(behind - {head.features})


def _scaled(photos: Any, scaling: Scaling, shape: tuple[int, ...]) -> Iterator[Any]:
    """Yield each photo as the network takes it, float32 [1, ...]."""
    factors, offsets = scaling.affine(np.float32, None)
    for photo in photos:
        image = (photo[..., ::-1] if scaling.order == "bgr" else photo).astype(np.float32) * factors + offsets
        yield (image if shape[3] == 3 else image.transpose(2, 0, 1))[None].astype(np.float32)


if __name__ == "__main__":
    main()
