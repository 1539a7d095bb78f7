"""The frozen description of one version: what its files are, what it expects and predicts, how it came to be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from classifier.errors import Corrupt, InvalidManifest, InvalidRequest
from classifier.registry import fields
from classifier.storage.names import check_name

SCHEMA_VERSION = 1
MODEL_FILE = "model.tflite"
SIGNATURE = "serving_default"
"""The name under which `MODEL_FILE` is run."""
MANIFEST_FILE = "manifest.json"
CLAIM_FILE = "claim.json"
KERAS_FILE = "model.keras"
"""The network that the next training starts from."""
PHOTOS_FILE = "report/photos.csv"
"""The photos that it was trained on, without names."""
DECISIONS_FILE = "report/decisions.csv"
"""Labels changed and photos left out over an audit, which the next training repeats."""
REPORT_FILE = "report/report.html"
MAX_SIDE = 4096

Resize = Literal["stretch", "crop"]
RESIZE_RULES: tuple[Resize, ...] = ("stretch", "crop")

Task = Literal["single-label"]
SINGLE_LABEL: Task = "single-label"
"""Each photo has one of the labels; the probabilities sum to 1. It is the task of manifests that name none."""

Extra = Mapping[str, Any]
"""Fields that this release does not know, kept when a manifest is written again."""


@dataclass(frozen=True)
class InputSpec:
    """What the model wants to see."""

    width: int
    """Pixels."""
    height: int
    resize: Resize = "stretch"
    """How a photo of another shape gets there: stretched, or cut around its centre first."""
    extra: Extra = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True)
class FileEntry:
    """What one file has to be."""

    sha256: str
    """64 lowercase hexadecimal digits."""
    bytes: int
    extra: Extra = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True)
class GoldenCase:
    """A photo that travels in the bundle and what the model said of it when it was exported."""

    file: str
    label: str
    probabilities: tuple[float, ...]
    """In the order of the manifest's labels."""
    extra: Extra = field(default_factory=dict, repr=False, hash=False)


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One version. `from_json` checks all of it; one that is built in code is checked when it is published."""

    schema_version: int = SCHEMA_VERSION
    model: str | None = None
    version: str | None = None
    """Such as "v7"; None in a bundle that is not published."""
    task: Task = SINGLE_LABEL
    """What a prediction is. A reader refuses one that it does not know, instead of misreading the probabilities."""
    labels: tuple[str, ...]
    """In the order of the model's outputs."""
    input: InputSpec
    files: Mapping[str, FileEntry]
    """Every file of the version but the manifest, under its path with forward slashes."""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    golden: tuple[GoldenCase, ...] = ()
    golden_tolerance: float = 0.01
    """How far a golden case's probabilities may be from the expected ones, each."""
    variant: str = "float32"
    """Which of the exported files is `model.tflite`."""
    variants: Mapping[str, Any] = field(default_factory=dict)
    """What each exported file measured."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Such as {"unknown": 0.4}: the score below which a prediction's status is "unknown"."""
    tta: Mapping[str, Any] = field(default_factory=dict)
    """Test-time augmentation: the "views" that are averaged when a caller asks for it, and what that measured."""
    training: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    """The data set that it was trained on, with its "fingerprint"."""
    parent_version: str | None = None
    created_by: str | None = None
    """Who published it."""
    created_at: str
    """RFC 3339, UTC."""
    tools: Mapping[str, str] = field(default_factory=dict)
    """Versions of the tools that made it."""
    notice: str | None = None
    """What whoever uses the model should know, such as that it is a demonstration."""
    no_gradcam: str | None = None
    """Why `MODEL_FILE` gives no Grad-CAM; None where it does, as every file did that was trained here."""
    public: tuple[str, ...] = ()
    """The files besides `MODEL_FILE` that whoever may ask the model may have: golden photos as samples, and the model
    card. None, unless whoever published the version named them."""
    extra: Extra = field(default_factory=dict, repr=False, hash=False)

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Read a ``manifest.json``.

        Raises:
            InvalidManifest: with the name of the field at fault, such as "input.width".
        """
        top = fields.read_object(data, MANIFEST_FILE)
        schema_version = top.integer("schema_version", low=1, high=1 << 31)
        if schema_version > SCHEMA_VERSION:
            raise InvalidManifest(
                f"Expected a manifest with schema_version {SCHEMA_VERSION}; received {schema_version}. "
                "A newer release wrote it: update this one.",
                field="schema_version",
            )
        labels = _labels(top)
        files = _files(top)
        return cls(
            schema_version=schema_version,
            model=top.text_or_none("model"),
            version=top.text_or_none("version"),
            task=_task(top),
            labels=labels,
            input=_input(top.object("input")),
            files=files,
            metrics=top.mapping("metrics"),
            golden=_golden(top, labels, files),
            golden_tolerance=top.number("golden_tolerance", low=0, high=1, default=0.01),
            variant=top.text("variant", default="float32"),
            variants=top.mapping("variants"),
            thresholds=_thresholds(top),
            tta=top.mapping("tta"),
            training=top.mapping("training"),
            data=top.mapping("data"),
            parent_version=top.text_or_none("parent_version"),
            created_by=top.text_or_none("created_by"),
            created_at=top.time("created_at"),
            tools=_tools(top),
            notice=top.text_or_none("notice"),
            no_gradcam=top.text_or_none("no_gradcam"),
            public=_public(top, files),
            extra=top.rest(),
        )

    def expect_fit(self, *, width: int, height: int, classes: int, gradcam: bool) -> None:
        """Compare with what the model's file itself takes and gives.

        Raises:
            Corrupt: the file is not the model that this manifest describes.
        """
        expected = (self.input.width, self.input.height, len(self.labels))
        if (width, height, classes) != expected:
            raise Corrupt(
                f"Expected the file {MODEL_FILE} of {self.version or 'the bundle'} to take images of "
                f"{expected[0]} x {expected[1]} pixels and to know {expected[2]} classes, as the manifest says; "
                f"it takes {width} x {height} and knows {classes}."
            )
        if gradcam != (self.no_gradcam is None):
            raise Corrupt(
                f"Expected the file {MODEL_FILE} of {self.version or 'the bundle'} to give "
                f"{'heatmaps' if self.no_gradcam is None else 'no heatmaps'}, as the manifest says; "
                f"it gives {'some' if gradcam else 'none'}."
            )

    def to_json(self) -> bytes:
        """Write a ``manifest.json``: always the same bytes for the same manifest.

        Raises:
            InvalidManifest: it holds something that is not JSON, such as a metric that is not finite.
        """
        return fields.write_json(
            {
                "schema_version": self.schema_version,
                "model": self.model,
                "version": self.version,
                "task": self.task,
                "labels": list(self.labels),
                "input": {
                    "width": self.input.width,
                    "height": self.input.height,
                    "resize": self.input.resize,
                    **self.input.extra,
                },
                "files": {
                    name: {"sha256": entry.sha256, "bytes": entry.bytes, **entry.extra}
                    for name, entry in sorted(self.files.items())
                },
                "metrics": self.metrics,
                "golden": [
                    {
                        "file": case.file,
                        "label": case.label,
                        "probabilities": list(case.probabilities),
                        **case.extra,
                    }
                    for case in self.golden
                ],
                "golden_tolerance": self.golden_tolerance,
                "variant": self.variant,
                "variants": self.variants,
                "thresholds": self.thresholds,
                "tta": self.tta,
                "training": self.training,
                "data": self.data,
                "parent_version": self.parent_version,
                "created_by": self.created_by,
                "created_at": self.created_at,
                "tools": self.tools,
                **({"notice": self.notice} if self.notice is not None else {}),
                **({"no_gradcam": self.no_gradcam} if self.no_gradcam is not None else {}),
                **({"public": list(self.public)} if self.public else {}),
                **self.extra,
            },
            MANIFEST_FILE,
        )


def _task(top: fields.Object) -> Task:
    task = top.text("task", default=SINGLE_LABEL)
    if task != SINGLE_LABEL:
        raise InvalidManifest(
            f"Expected task to be {SINGLE_LABEL}, the only one that this release knows; received {task!r}. "
            "A newer release wrote it: update this one.",
            field="task",
        )
    return SINGLE_LABEL


def _labels(top: fields.Object) -> tuple[str, ...]:
    labels = tuple(top.texts("labels"))
    for index, label in enumerate(labels):
        if label in labels[:index]:
            raise top.wrong(f"labels.{index}", "a label that no other class has", label)
    if not labels:
        raise top.wrong("labels", "at least one label", [])
    return labels


def _input(entry: fields.Object) -> InputSpec:
    width = entry.integer("width", low=1, high=MAX_SIDE)
    height = entry.integer("height", low=1, high=MAX_SIDE)
    resize = entry.text("resize", default="stretch")
    for known in RESIZE_RULES:
        if resize == known:
            return InputSpec(width, height, known, entry.rest())
    raise entry.wrong("resize", f"one of {', '.join(RESIZE_RULES)}", resize)


def _files(top: fields.Object) -> dict[str, FileEntry]:
    files = {}
    table = top.object("files")
    for name in table.names():
        try:
            check_name(name)
        except InvalidRequest as error:
            raise table.wrong(name, "a path inside the version", name) from error
        if name in (MANIFEST_FILE, CLAIM_FILE):
            raise table.wrong(name, "no file of this name, which the store keeps for itself", name)
        entry = table.object(name)
        files[name] = FileEntry(entry.sha256("sha256"), entry.integer("bytes", low=0, high=1 << 40), entry.rest())
    if MODEL_FILE not in files:
        raise table.wrong(MODEL_FILE, "an entry for the model's file", None)
    return files


def _golden(top: fields.Object, labels: tuple[str, ...], files: Mapping[str, FileEntry]) -> tuple[GoldenCase, ...]:
    cases = []
    for entry in top.objects("golden"):
        case = GoldenCase(
            entry.text("file"),
            entry.text("label"),
            tuple(entry.numbers("probabilities", low=0, high=1)),
            entry.rest(),
        )
        if case.file not in files:
            raise entry.wrong("file", "a name that is in files", case.file)
        if case.label not in labels:
            raise entry.wrong("label", "one of the labels", case.label)
        if len(case.probabilities) != len(labels):
            raise entry.wrong("probabilities", f"{len(labels)} numbers", len(case.probabilities))
        cases.append(case)
    return tuple(cases)


def _public(top: fields.Object, files: Mapping[str, FileEntry]) -> tuple[str, ...]:
    public = tuple(top.texts("public")) if "public" in top.names() else ()
    for index, name in enumerate(public):
        if name not in files:
            raise top.wrong(f"public.{index}", "a name that is in files", name)
    return public


def _thresholds(top: fields.Object) -> dict[str, float]:
    table = top.object("thresholds", default={})
    return {name: table.number(name, low=0, high=1) for name in table.names()}


def _tools(top: fields.Object) -> dict[str, str]:
    table = top.object("tools", default={})
    return {name: table.text(name) for name in table.names()}
