"""What lies beside an exported file: labels.txt, model.json for programs and README.md for people."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from classifier.photo.preprocessing import load_array
from classifier.registry.bundle import read_bundle_file
from classifier.registry.fields import now
from classifier.registry.manifest import MODEL_FILE
from trainer.evaluation.ood import UNKNOWN
from trainer.evaluation.served_bundle import ServedBundle
from trainer.export.agreement import Agreement
from trainer.export.coreml_file import COREML_FILE, COREML_PACKAGES, LABEL, PROBABILITIES
from trainer.export.fitted import read_fitted
from trainer.export.litert import FLOAT32
from trainer.export.onnx_file import ONNX_FILE, PACKAGES
from trainer.export.provenance import TOOLS, tool_versions
from trainer.export.saved_model import CLASSIFY, EXPLAIN, HEATMAPS
from trainer.run.exports import ExportKind

LABELS_FILE, JSON_FILE, README_FILE = "labels.txt", "model.json", "README.md"
GOLDEN = "golden"
"""Folder of the golden photos in the network's size."""
RESIZED = {
    "stretch": "stretching all of it to {width} x {height} pixels",
    "crop": "resizing its largest centred part of that aspect to {width} x {height} pixels",
}
MEANINGS = {
    "probabilities": "of the classes, in the order of the labels; calibrated",
    "score": "how much the photo is like those that the model was trained on, 0..1",
    HEATMAPS: "Grad-CAM of each class's logit, never negative",
    "label": "the most probable one",
    PROBABILITIES: "of each class by its label; calibrated",
}
MORE_TOOLS: dict[ExportKind, tuple[str, ...]] = {"onnx": PACKAGES, "coreml": COREML_PACKAGES}
"""The packages that made a file besides `TOOLS`."""
CALLS: dict[ExportKind, str] = {
    "saved_model": f"""\
A TensorFlow SavedModel with two signatures: `{CLASSIFY}`, and `{EXPLAIN}`, which gives the heatmaps too. TensorFlow
Serving serves the folder above this one, whose numbers are versions:

    docker run --rm -p 8501:8501 -v "$(dirname "$PWD"):/models/pointer" -e MODEL_NAME=pointer tensorflow/serving

A request is JSON: the photos under `instances`, and `"signature_name": "{EXPLAIN}"` where heatmaps are wanted:

    import json, urllib.request
    body = json.dumps({{"instances": [pixels.tolist()]}}).encode()
    reply = urllib.request.urlopen("http://localhost:8501/v1/models/pointer:predict", body)
    print(json.load(reply)["predictions"][0]["label"])
""",
    "onnx": f"""\
`{ONNX_FILE}` gives all outputs; ask for those that you need. With ONNX Runtime:

    import onnxruntime
    session = onnxruntime.InferenceSession("{ONNX_FILE}")
    probabilities, score = session.run(["probabilities", "score"], {{"image": pixels[None]}})

The labels are in its metadata too, as a JSON list under `labels`.
""",
    "coreml": f"""\
`{COREML_FILE}` is a Core ML program in float32, a classifier for iOS 15, macOS 12 and later. With Vision, in Swift:

    let model = try VNCoreMLModel(for: MLModel(contentsOf: compiled))
    let request = VNCoreMLRequest(model: model) {{ request, _ in
        let best = (request.results as? [VNClassificationObservation])?.first
        print(best?.identifier ?? "none", best?.confidence ?? 0)
    }}
    request.imageCropAndScaleOption = .scaleFill // .centerCrop where photos are cropped, see above
    try VNImageRequestHandler(cgImage: photo).perform([request])

Vision gives `{LABEL}` and `{PROBABILITIES}`; `MLModel.prediction` gives the score and the heatmaps as well.

**Nothing has been computed with this file yet**: only Apple's systems can. What it declares (input, outputs, labels)
was checked, its numbers were not. Before you ship it, compare them on a Mac, with `pip install coremltools pillow`:

    import json, coremltools, PIL.Image
    model = coremltools.models.MLModel("{COREML_FILE}")
    for case in json.load(open("{JSON_FILE}"))["golden"]:
        found = model.predict({{"image": PIL.Image.open(case["image"])}})["{PROBABILITIES}"]
        differences = [abs(found[label] - wanted) for label, wanted in case["probabilities"].items()]
        print(max(differences), "should be below 0.001")
""",
}


def describe(folder: Path, kind: ExportKind, network: keras.Model, bundle: ServedBundle, agreement: Agreement) -> None:
    """Write `LABELS_FILE`, `JSON_FILE` and `README_FILE` into an export's folder; of Core ML also `GOLDEN`."""
    facts = _facts(kind, network, bundle, agreement)
    if kind == "coreml":
        facts["golden"] = _write_golden(folder / GOLDEN, network, bundle)
    lines = [" ".join(label.splitlines()) for label in bundle.manifest.labels]
    (folder / LABELS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / JSON_FILE).write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / README_FILE).write_text(_readme(kind, facts), encoding="utf-8")


def _facts(kind: ExportKind, network: keras.Model, bundle: ServedBundle, agreement: Agreement) -> dict[str, Any]:
    manifest = bundle.manifest
    outputs = {name: {"dtype": "float32", "shape": _shape(output)} for name, output in network.output.items()}
    image = _shape(network.input)
    if kind == "saved_model":
        outputs["label"] = {"dtype": "string", "shape": ["n"]}
    if kind == "coreml":  # one photo at once, and Core ML's own types
        image = [1, *image[1:]]
        outputs = {name: {**each, "shape": [1, *each["shape"][1:]]} for name, each in outputs.items()}
        outputs[PROBABILITIES] = {**outputs.pop("probabilities"), "dtype": "dictionary"}
        outputs[LABEL] = {"dtype": "string", "shape": [1]}
    return {
        "input": {
            "name": "image",
            "dtype": "uint8",
            "shape": image,
            "values": "0..255, RGB in sRGB, upright; scaled inside",
            "resize": manifest.input.resize,
        },
        "outputs": {name: {**each, "meaning": MEANINGS[name]} for name, each in sorted(outputs.items())},
        "labels": list(manifest.labels),
        "temperature": round(read_fitted(bundle.folder)[0], 6),
        "thresholds": dict(manifest.thresholds),
        "served_file": {"variant": manifest.variant, "sha256": manifest.files[MODEL_FILE].sha256},
        "agreement": {
            "golden_photos": agreement.photos,
            "largest_difference_from_network": agreement.network,
            "largest_difference_from_served_file": agreement.served,
        },
        "notice": manifest.notice,
        "made_with": tool_versions((*TOOLS, *MORE_TOOLS.get(kind, ()))),
        "created_at": now(),
    }


def _write_golden(folder: Path, network: keras.Model, bundle: ServedBundle) -> list[dict[str, Any]]:
    """Write what the network takes of each golden photo, to compare with elsewhere; return what it says of them."""
    folder.mkdir()
    cases = []
    for number, case in enumerate(bundle.manifest.golden):
        pixels = load_array(read_bundle_file(bundle.folder, case.file), bundle.manifest.input)
        Image.fromarray(pixels).save(folder / f"{number}.png")
        said = np.asarray(network(pixels[None], training=False)["probabilities"])[0]
        probabilities = dict(zip(bundle.manifest.labels, said.tolist(), strict=True))
        cases.append({"image": f"{GOLDEN}/{number}.png", "probabilities": probabilities})
    return cases


def _readme(kind: ExportKind, facts: dict[str, Any]) -> str:
    image, agreed, limit = facts["input"], facts["agreement"], facts["thresholds"].get(UNKNOWN)
    height, width = image["shape"][1:3]
    resized = RESIZED[image["resize"]].format(width=width, height=height)
    rows = [
        f"| `{name}` | {each['dtype']} {_text(each['shape'])} | {each['meaning']} |"
        for name, each in facts["outputs"].items()
    ]
    unknown = (
        ""
        if limit is None
        else f"Where the score is below {limit:.6g}, Pointer answers `unknown`: a photo of something else.\n"
    )
    exact = facts["served_file"]["variant"] == FLOAT32
    quantised = "" if exact else " That is what its quantisation changes; the threshold was measured with it."
    who = "its" if agreed["largest_difference_from_network"] is not None else "that network's"
    notice = f"{facts['notice']}\n\n" if facts["notice"] else ""
    return f"""# An image classifier of {len(facts["labels"])} classes

{notice}| name | type | |
| --- | --- | --- |
| `image` (input) | uint8 {_text(image["shape"])} | {image["values"]} |
{chr(10).join(rows)}

{"n is any number of photos at once. " if image["shape"][0] == "n" else ""}A photo becomes an image by {resized},
with an antialiased bilinear filter. Send the pixels as they are: their scaling is part of the graph. Pointer's own code
(installed without TensorFlow by `pip install .` in its folder) does what was done in training:

    from pathlib import Path
    from classifier.photo.preprocessing import load_array
    from classifier.registry.manifest import InputSpec
    pixels = load_array(Path("photo.jpg").read_bytes(), InputSpec({width}, {height}, "{image["resize"]}"))

{CALLS[kind]}
The labels are in `{LABELS_FILE}`, one a line in the order of the probabilities; all of this, for programs, is in
`{JSON_FILE}`. The probabilities are calibrated: the graph divides the logits by {facts["temperature"]:g}.
{unknown}
It is the network of the {facts["served_file"]["variant"]} LiteRT file with the SHA-256
{facts["served_file"]["sha256"]}, in float32. On {agreed["golden_photos"]} held-out photos {who} probabilities and
scores were at most {agreed["largest_difference_from_served_file"]:.1e} from that file's.{quantised}
"""


def _shape(tensor: Any) -> list[int | str]:
    return ["n" if size is None else int(size) for size in tensor.shape]


def _text(shape: list[int | str]) -> str:
    return f"[{', '.join(map(str, shape))}]"
