"""Quantises a float32 LiteRT file, by AI Edge Quantizer: which operators become what, without TensorFlow.

- **float16**: the weights of every operator; the arithmetic stays float32.
- **int8-dynamic**: the convolutions' weights, and their inputs as they come. A depthwise convolution stays float32:
  XNNPACK has none of dynamic range, and LiteRT's own makes a file slower than float32.
- **int8**: weights and activations, whose ranges are the smallest and largest value on the given photos. Where few
  operators spoil the answers, those stay float32: in a MobileNet it is the first depthwise convolution, whose channels
  differ a hundredfold and share one range. `docs/training.md` has the figures.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainer.export.flatbuffer import to_bytes
from trainer.run.export_options import VariantName

BITS = 8
PHOTOS_TO_SCAN = 24
"""On so many of the photos is looked for what spoils the answers."""
PARTS = 10
"""Into so many the operators are divided, and the worst part again, until one operator is left."""
SPOILS = 0.75
"""An operator stays float32 where that leaves less than this share of the error; then one more is looked for."""
MOST_KEPT = 3


def quantised(float32: bytes, variant: VariantName, operators: str, photos: Iterable[NDArray[Any]] = ()) -> bytes:
    """Return a float32 file with some of its operators quantised.

    Args:
        float32: a LiteRT file with one signature, which has one input.
        variant: ``float16``, ``int8-dynamic`` or ``int8``.
        operators: regular expression of the output tensors whose operators become int8; float16 takes all.
        photos: what the input takes [1, ...], from which ``int8`` learns the ranges.

    Raises:
        ValueError: the quantizer cannot do it, and says why.
        Exception: what reading the photos raised.
    """
    given = list(photos) if variant == "int8" else []
    try:
        with warnings.catch_warnings():
            # Of channels whose weights are all zero; of the interpreter that keeps what a calibration reads.
            warnings.filterwarnings("ignore", category=RuntimeWarning, module=r"ai_edge_quantizer\.")
            warnings.filterwarnings("ignore", message=r"\s*Warning: Enabling `experimental_preserve_all_tensors`")
            if variant == "float16":
                return _apply(float32, _float16())
            if variant == "int8-dynamic":
                return _apply(float32, _dynamic(operators))
            return _calibrated(float32, operators, given)
    except Exception as error:  # the quantizer raises what its parts raise
        raise ValueError(f"AI Edge Quantizer: {type(error).__name__}: {error}") from error


def all_but(names: Iterable[str]) -> str:
    """Return the regular expression of every tensor but these."""
    return _without(".*", names)


def _without(operators: str, names: Iterable[str]) -> str:
    """Return a regular expression that leaves some names out. The quantizer ends each name with a semicolon."""
    left_out = "|".join(re.escape(name) for name in names)
    return f"^(?!(?:{left_out});?$).*(?:{operators})" if left_out else operators


def _float16() -> Any:
    from ai_edge_quantizer import qtyping, recipe_manager
    from ai_edge_quantizer.algorithm_manager import AlgorithmName

    half = qtyping.OpQuantizationConfig(
        weight_tensor_config=qtyping.TensorQuantizationConfig(16, dtype=qtyping.TensorDataType.FLOAT),
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    recipe = recipe_manager.RecipeManager()
    recipe.add_quantization_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, half, AlgorithmName.FLOAT_CASTING)
    return recipe


def _dynamic(operators: str) -> Any:
    from ai_edge_quantizer import qtyping, recipe_manager

    recipe = recipe_manager.RecipeManager()
    recipe.add_dynamic_config(operators, qtyping.TFLOperationName.CONV_2D, BITS)
    return recipe


def _static(operators: str) -> Any:
    from ai_edge_quantizer import qtyping, recipe_manager

    recipe = recipe_manager.RecipeManager()
    recipe.add_static_config(operators, qtyping.TFLOperationName.ALL_SUPPORTED, BITS, BITS)
    return recipe


def _apply(float32: bytes, recipe: Any, ranges: Any = None) -> bytes:
    from ai_edge_litert.tools.flatbuffer_utils import read_model_from_bytearray
    from ai_edge_quantizer.quantizer import Quantizer

    quantizer = Quantizer(bytearray(float32), recipe.get_quantization_recipe())
    result = quantizer.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
    # Of a large model it puts the weights behind the flatbuffer.
    return to_bytes(read_model_from_bytearray(bytearray(result.quantized_model)))


@dataclass(frozen=True)
class _Candidate:
    """An int8 file, some of whose operators stayed float32."""

    kept: tuple[str, ...]
    """The tensors that those operators make."""
    content: bytes
    error: float
    """Mean square of the difference of what is answered, relative to float32's."""


def _calibrated(float32: bytes, operators: str, photos: Sequence[NDArray[Any]]) -> bytes:
    """Return an int8 file whose worst operators stayed float32."""
    ranges = _ranges(float32, _static(operators), photos)
    scanned = photos[:PHOTOS_TO_SCAN]
    expected = _answers(float32, scanned)

    def keeping(names: tuple[str, ...]) -> _Candidate:
        content = _apply(float32, _static(_without(operators, names)), ranges)
        difference = _answers(content, scanned) - expected
        return _Candidate(names, content, float(np.mean(difference**2) / (np.mean(expected**2) + 1e-12)))

    best = keeping(())
    names = [name for name in _outputs(float32) if re.search(operators, name)]
    while len(best.kept) < MOST_KEPT:
        left = [name for name in names if name not in best.kept]
        while len(left) > 1:
            size = math.ceil(len(left) / PARTS)
            parts = [tuple(left[start : start + size]) for start in range(0, len(left), size)]
            worst = min((keeping((*best.kept, *part)) for part in parts), key=lambda each: each.error)
            left = list(worst.kept[len(best.kept) :])
        if not left:
            break
        found = keeping((*best.kept, *left))
        if not found.error < SPOILS * best.error:
            break
        best = found
    return best.content


def _ranges(float32: bytes, recipe: Any, photos: Sequence[NDArray[Any]]) -> Any:
    """Return the smallest and largest value of each tensor; the quantizer's own way forgets the first photos."""
    from ai_edge_quantizer.calibrator import Calibrator
    from ai_edge_quantizer.utils.qsv_utils import min_max_update

    calibrator = Calibrator(float32, num_threads=1, qsv_update_func=min_max_update)
    ((name, ends),) = calibrator.get_signature_list().items()
    (image,) = ends["inputs"]
    calibrator.calibrate({name: [{image: photo} for photo in photos]}, recipe)
    return calibrator.get_model_qsvs()


def _answers(content: bytes, photos: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    """Return what a file says of some photos: its probabilities, or the one output that it has."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content, num_threads=1).get_signature_runner()
    (image,) = runner.get_input_details()
    outputs = runner.get_output_details()
    name = "probabilities" if "probabilities" in outputs else next(iter(outputs))
    return np.concatenate([runner(**{image: photo})[name] for photo in photos]).astype(np.float32)


def _outputs(content: bytes) -> list[str]:
    """Return the name of what each operator makes, first to last."""
    from ai_edge_quantizer.utils.tfl_flatbuffer_utils import read_model

    (graph, *_) = read_model(content).subgraphs
    return [graph.tensors[operator.outputs[0]].name.decode() for operator in graph.operators]
