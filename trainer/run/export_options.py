"""How a trained network becomes a bundle, or a file for another server: its options, each declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from trainer.run.declarations import Option

VariantName = Literal["float32", "float16", "int8-dynamic", "int8"]
PortableFormat = Literal["saved-model", "onnx", "coreml"]
ExportFormat = Literal["litert", "saved-model", "onnx", "coreml"]


@dataclass(frozen=True)
class ExportOptions:
    """How a trained network becomes a bundle: not part of the run, whose bundle can be made again with others."""

    tolerance: Annotated[
        float, Option("Share of top-1 that the served file may lose against float32 on the validation photos.", 0, 1)
    ] = 0.005
    variant: Annotated[
        VariantName | None,
        Option(
            "Serve this file, and make no others but float32: float32, float16, int8-dynamic or int8.",
            default="the fastest within the tolerance",
        ),
    ] = None
    serving_cpus: Annotated[
        int, Option("CPUs of the function that will serve: by them the fastest file is chosen.", 1)
    ] = 1
    ood: Annotated[
        Path | None,
        Option(
            "Folder of photos of something else, by which the score is chosen; half of them it learns from, if that "
            "helps.",
            path=True,
            alias="--strangers",
        ),
    ] = None
    pass_own: Annotated[
        float, Option("Share of photos of the classes that is to pass as known: sets the threshold.", 0.5, 0.999)
    ] = 0.95
    parent: Annotated[str | None, Option("The version that this one follows, such as v7; recorded.")] = None
    notice: Annotated[
        str | None, Option("What users of the model should know: shown by GET /model, the page and the report.")
    ] = None
