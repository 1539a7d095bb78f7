"""Exports a run's network for servers of other makers, calibrated and scored as the file in its bundle is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
from keras import layers

from classifier.quiet import quiet
from trainer.evaluation.served_bundle import ServedBundle, open_bundle
from trainer.export.agreement import Agreement, Runner, compare_golden
from trainer.export.coreml_file import write_coreml
from trainer.export.description import describe
from trainer.export.fitted import read_fitted
from trainer.export.onnx_file import load_onnx, write_onnx
from trainer.export.saved_model import load_saved_model, write_saved_model
from trainer.networks.backbones import BACKBONE
from trainer.networks.gradcam import serving_model
from trainer.networks.heads import HEAD
from trainer.run.export_options import PortableFormat
from trainer.run.exports import ExportKind, add_export
from trainer.run.folder import RunFolder
from trainer.training.start import parts


@dataclass(frozen=True)
class Format:
    """How a network is written in one format, and run to be compared."""

    kind: ExportKind
    write: Callable[[keras.Model, Sequence[str], Path], None]
    load: Callable[[Path], Runner] | None
    """None where nothing here computes such files."""


FORMATS: dict[PortableFormat, Format] = {
    "saved-model": Format("saved_model", write_saved_model, load_saved_model),
    "onnx": Format("onnx", write_onnx, load_onnx),
    "coreml": Format("coreml", write_coreml, None),
}


def export_portable(run: RunFolder, name: PortableFormat) -> tuple[Path, Agreement]:
    """Export the network of a run's bundle; the photos that it was trained on are not needed.

    The folder appears whole under the next number, or not at all; earlier ones stay as they are.

    Args:
        run: the run, which has a bundle.
        name: the format.

    Returns:
        The folder, and how far its answers are from others' on the golden photos.

    Raises:
        NotFound: the run has no bundle, or one of an earlier release.
        Corrupt: the bundle is damaged, or the new file does not answer as the network does.
        Also what the converter raises.
    """
    bundle, form = open_bundle(run), FORMATS[name]
    with quiet(tell_on_error=True):
        network = portable_network(bundle)
    agreed: list[Agreement] = []

    def write(folder: Path) -> None:
        with quiet(tell_on_error=True):
            form.write(network, bundle.manifest.labels, folder)
            run = form.load(folder) if form.load else None
            agreed.append(compare_golden(run, network, bundle))
        describe(folder, form.kind, network, bundle, agreed[0])

    return add_export(run.exports(form.kind), write), agreed[0]


def portable_network(bundle: ServedBundle) -> keras.Model:
    """Return a bundle's network in float32, for any number n of photos at once.

    Returns:
        ``image`` uint8 [n, H, W, 3], RGB -> ``probabilities`` [n, classes], ``score`` [n] and ``heatmaps``
        [n, classes, h, w], as in the bundle's LiteRT file.

    Raises:
        NotFound: the bundle has no fitted temperature and score: an earlier release made it.
    """
    temperature, score = read_fitted(bundle.folder)
    backbone, head = parts(bundle.folder, BACKBONE, HEAD)
    served = serving_model(backbone, head, temperature, score, batch=None)
    outputs = {**served.output, "score": layers.Reshape((), name="flat_score")(served.output["score"])}
    return keras.Model(served.input, outputs, name="portable")
