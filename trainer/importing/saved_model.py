"""Opens a SavedModel: a graph of operations, of which some read and write files; only those that compute are let in."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from classifier.errors import InvalidRequest
from trainer.importing.source import SAVED_MODEL

SERVING = "serving_default"
LARGEST_GRAPH = 1 << 30
CALLS = {"PartitionedCall", "StatefulPartitionedCall"}
COMPUTES = CALLS | {
    "Abs", "Add", "AddN", "AddV2", "ArgMax", "AvgPool", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3",
    "BatchToSpaceND", "BiasAdd", "BroadcastTo", "Cast", "Ceil", "ClipByValue", "Concat", "ConcatV2", "Const",
    "Conv2D", "DepthToSpace", "DepthwiseConv2dNative", "Div", "DivNoNan", "Einsum", "Elu", "Equal", "Erf", "Exp",
    "ExpandDims", "Fill", "Floor", "FloorDiv", "FloorMod", "FusedBatchNorm", "FusedBatchNormV2",
    "FusedBatchNormV3", "Gather", "GatherV2", "Greater", "GreaterEqual", "Identity", "IdentityN", "L2Loss", "LRN",
    "LeakyRelu", "Less", "LessEqual", "Log", "Log1p", "LogSoftmax", "LogicalAnd", "LogicalNot", "LogicalOr",
    "MatMul", "Max", "MaxPool", "MaxPoolV2", "Maximum", "Mean", "Min", "Minimum", "MirrorPad", "Mul", "MulNoNan",
    "Neg", "NoOp", "NotEqual", "OnesLike", "Pack", "Pad", "PadV2", "Placeholder", "PlaceholderWithDefault", "Pow",
    "PreventGradient", "Prod", "Range", "Rank", "ReadVariableOp", "RealDiv", "Reciprocal", "Relu", "Relu6",
    "Reshape", "ResizeBicubic", "ResizeBilinear", "ResizeNearestNeighbor", "ResourceGather", "Reverse",
    "ReverseV2", "Rint", "Round", "Rsqrt", "Select", "SelectV2", "Selu", "Shape", "Sigmoid", "Sign", "Size",
    "Slice", "Softmax", "Softplus", "Softsign", "SpaceToBatchND", "SpaceToDepth", "Split", "SplitV", "Sqrt",
    "Square", "SquaredDifference", "Squeeze", "StopGradient", "StridedSlice", "Sub", "Sum", "Tanh", "Tile",
    "TopKV2", "Transpose", "Unpack", "VarHandleOp", "VarIsInitializedOp", "Where", "ZerosLike",
}  # fmt: skip
"""Operations that compute from what they are given. Whatever is not here may do anything."""
OBJECTS = {"user_object", "function", "variable", "bare_concrete_function", "constant", "captured_tensor"}
"""Objects that are only restored; assets are files, and resources are made by functions that run when it is opened."""


def expect_only_computes(folder: Path) -> None:
    """Look at every operation that opening and running a SavedModel would run.

    Raises:
        InvalidRequest: it is damaged, or one does more than compute.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf import saved_model_pb2

    path = folder / SAVED_MODEL
    if path.stat().st_size > LARGEST_GRAPH:
        raise InvalidRequest(f"Expected {SAVED_MODEL} of at most {LARGEST_GRAPH:,} bytes; received more.")
    try:
        saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    except (DecodeError, RecursionError) as error:
        raise InvalidRequest(f"Expected a whole {SAVED_MODEL}; this one is damaged. Export it again.") from error
    if len(saved.meta_graphs) != 1 or not saved.meta_graphs[0].object_graph_def.nodes:
        raise InvalidRequest(
            "Expected a SavedModel of TensorFlow 2; received one of TensorFlow 1, or with several graphs. Convert it "
            "where it was made, with tf.lite.TFLiteConverter.from_saved_model, and import the .tflite."
        )
    graph = saved.meta_graphs[0]
    _expect_plain_objects(graph.object_graph_def.nodes)
    if graph.asset_file_def:
        raise InvalidRequest("Expected a SavedModel without assets; received one with files that it would read.")
    library = {function.signature.name: function.node_def for function in graph.graph_def.library.function}
    reached, left = set(), [_called(graph.signature_def), *_functions_of(graph)]
    names = [name for each in left for name in each]
    _expect_known(graph.graph_def.node, library, saving=True)
    while names:
        name = names.pop()
        if name in reached or name not in library:
            continue
        reached.add(name)
        _expect_known(library[name], library, saving=_is_of_saver(name))
        names += [node.attr["f"].func.name for node in library[name] if node.op in CALLS]


SAVES = {
    "SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "StringJoin", "StaticRegexFullMatch",
    "RegexFullMatch", "AssignVariableOp", "StringFormat",
}  # fmt: skip
"""What the functions of a saver are made of, which opening does not run: variables are read by TensorFlow itself."""


class Signature(NamedTuple):
    """The function of a SavedModel that is imported."""

    call: Callable[[Any], Any]
    """From a batch of images to the output."""
    spec: Any
    """Of its input."""
    loaded: Any
    """Keeps its weights alive."""


def load_signature(folder: Path) -> Signature:
    """Return the function of a checked SavedModel.

    Raises:
        InvalidRequest: it cannot be opened, or has another signature than one image in, one output.
    """
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(folder))
    except MemoryError:
        raise
    except Exception as error:  # TensorFlow raises what its loader meets
        first = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InvalidRequest(
            f"Expected a SavedModel that TensorFlow {tf.__version__} can open; {folder.name} is not one: "
            f"{first[:300].rstrip('.')}. Export it again."
        ) from error
    signatures = dict(loaded.signatures)
    name = SERVING if SERVING in signatures else next(iter(signatures), "")
    if not name:
        raise InvalidRequest(f"Expected a SavedModel with the signature {SERVING}; received one with none.")
    function = signatures[name]
    inputs, outputs = function.structured_input_signature[1], function.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise InvalidRequest(
            f"Expected a signature of one image and one output; received the inputs {', '.join(inputs) or 'none'} and "
            f"the outputs {', '.join(outputs) or 'none'}."
        )
    (into, spec), (out, _) = next(iter(inputs.items())), next(iter(outputs.items()))
    return Signature(lambda image: function(**{into: image})[out], spec, loaded)


def _expect_plain_objects(nodes: Iterable[Any]) -> None:
    for node in nodes:
        kind = node.WhichOneof("kind")
        if kind is not None and kind not in OBJECTS:
            raise InvalidRequest(
                f"Expected a SavedModel of weights and functions; received one with an object of the kind {kind}, such "
                "as a table, which would open files. Export the classifier alone, without text or lookup layers."
            )
        saveables = node.saveable_objects.values()
        if kind != "variable" and any(each.save_function or each.restore_function for each in saveables):
            raise InvalidRequest("Expected a SavedModel of plain weights; received one that restores them itself.")
        if node.registered_saver:
            raise InvalidRequest("Expected a SavedModel whose weights are plain; received one with a saver of its own.")


def _called(signatures: Any) -> list[str]:
    return [name for name in signatures if name.startswith("__inference")]


def _functions_of(graph: Any) -> list[list[str]]:
    """Return the concrete functions that its objects name: any of them may be a signature's."""
    return [list(graph.object_graph_def.concrete_functions)]


def _is_of_saver(name: str) -> bool:
    return name.startswith(("__inference__traced_save", "__inference__traced_restore"))


def _expect_known(nodes: Iterable[Any], library: Any, *, saving: bool) -> None:
    for node in nodes:
        if node.op in COMPUTES or (saving and node.op in SAVES) or (node.op in library and not saving):
            continue
        raise InvalidRequest(
            f"Expected operations that only compute; received {node.op} ({node.name}), which is not among those. A "
            "SavedModel that decodes photos, reads files or runs Python cannot be imported: export the network alone."
        )
