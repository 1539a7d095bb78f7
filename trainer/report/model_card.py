"""The model card: what the model is for, what it was trained on, how good it is, and what it is not good for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from classifier.registry.manifest import Manifest
from trainer.metrics.separation import doubt
from trainer.report.document import Block, Listing, Paragraph, Section
from trainer.report.numbers import figures_table

DATA = {
    "food-101": (
        "Photos in the layout of Food-101: Bossard, Guillaumin, Van Gool: Food-101 - Mining Discriminative Components "
        "with Random Forests (ECCV 2014), https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
        "Food-101's photos come from Foodspotting and do not belong to the data set's authors, who name scientific "
        "fair use as their only use; anything beyond has to be settled with the photos' owners.",
    ),
    "dog-breed": (
        "Photos in the layout of Kaggle Dog Breed Identification, https://www.kaggle.com/c/dog-breed-identification, "
        "which is made of Stanford Dogs (Khosla et al. 2011), http://vision.stanford.edu/aditya86/ImageNetDogs/",
        "The photos come from ImageNet: for non-commercial research and education only.",
    ),
}
"""Of known data sets: what they are, and their terms."""
OWN_DATA = "Photos of your own."
OWN_LICENCE = "Yours: state it (trainer report --data-licence TEXT)."
IMAGENET_WARNING = (
    "The dog photos come from ImageNet, test photos included: every network with ImageNet weights has already seen "
    "them with their labels. The figures are too good; for photos of other dogs expect lower ones."
)


def sections(
    manifest: Manifest, figures: Mapping[str, Mapping[str, float | None]], licence: str | None
) -> list[Section]:
    """Return the model card of a bundle (Mitchell et al. 2019).

    Args:
        manifest: the bundle's.
        figures: `trainer.report.numbers.split_figures`.
        licence: the terms of the photos, for the card; None for those known of the data set.
    """
    return [
        Section("Intended use", _use(manifest)),
        Section("Data and licence", _data(manifest, licence)),
        Section("Figures", _figures(manifest, figures)),
        Section("Limits", _limits(manifest, figures)),
        Section("How it was made", _making(manifest)),
    ]


def warnings(manifest: Manifest) -> list[Paragraph]:
    """Return what a reader of the figures has to know first."""
    told = [
        manifest.notice,
        IMAGENET_WARNING if _dataset(manifest) == "dog-breed" else None,
        doubt(manifest.metrics.get("unknown") or {}, manifest.training, manifest.data),
    ]
    return [Paragraph(text, warning=True) for text in told if text]


def _use(manifest: Manifest) -> tuple[Block, ...]:
    return (
        Paragraph(
            f"The model names what one photo shows, out of {len(manifest.labels)} classes: {_listed(manifest.labels)}. "
            "It gives a confidence to each class, and a heatmap of where in the photo a label comes from."
        ),
        Paragraph(
            "It is meant for photos like those that it was trained on. It is not meant for decisions about people, nor "
            "for any where a wrong label does harm: a label says nothing of allergens, freshness, health or behaviour."
        ),
    )


def _data(manifest: Manifest, licence: str | None) -> tuple[Block, ...]:
    what, terms = DATA.get(_dataset(manifest), (OWN_DATA, OWN_LICENCE))
    photos = manifest.data.get("photos") or {}
    counts = ", ".join(f"{count:,} {split}" for split, count in photos.items())
    return (
        *warnings(manifest),
        Paragraph(what),
        Paragraph(f"Licence of the photos: {licence or terms}"),
        Listing(
            tuple(
                line
                for line in (
                    f"Photos used: {counts}." if counts else "",
                    f"Left out as missing, unreadable or doubled: {manifest.data.get('rejected', 'not measured')}.",
                    f"Fingerprint of photos, labels and splits: {manifest.data.get('fingerprint', 'not measured')}.",
                )
                if line
            )
        ),
    )


def _figures(manifest: Manifest, figures: Mapping[str, Mapping[str, float | None]]) -> tuple[Block, ...]:
    return (
        *warnings(manifest),
        figures_table({split: row for split, row in figures.items() if split != "train"}),
        Paragraph(
            f"They are those of the file that is served ({manifest.variant}). Intervals: Wilson for top-1, bootstrap "
            "over the photos for F1. They say how much chance there is in the choice of these photos, and nothing of "
            "photos of another kind."
        ),
    )


def _limits(manifest: Manifest, figures: Mapping[str, Mapping[str, float | None]]) -> tuple[Block, ...]:
    threshold = manifest.thresholds.get("unknown")
    return (
        Listing(
            (
                "It knows its classes and nothing else: of a photo of something else it still names one of them"
                + (
                    f", with the status unknown where its score is below {threshold:.3f}; that catches some of "
                    "them, not all."
                    if threshold is not None
                    else "."
                ),
                "It names one class a photo, also where there are several or none to be seen.",
                f"It sees {manifest.input.width} x {manifest.input.height} pixels "
                + (
                    "of the whole photo, stretched." if manifest.input.resize == "stretch" else "of the photo's middle."
                ),
                "Its confidence is calibrated on photos of the same source; on others it may be too sure of itself.",
                "Whatever is rare in the training photos (places, kinds, light, cameras) it may get wrong more often; "
                "the figures, means over the classes, do not show it.",
            )
        ),
    )


def _making(manifest: Manifest) -> tuple[Block, ...]:
    network = manifest.training.get("network", {})
    weights = network.get("weights", "")
    own = manifest.training.get("backbone")
    if weights == "none":
        start = "from scratch"
    elif own:
        start = f"from {own['file']} (SHA-256 {own['sha256']})"
    else:
        start = f"from the weights {weights}" if weights else "from unknown weights"
    taught = manifest.training.get("teacher")
    tools = ", ".join(f"{name} {version}" for name, version in manifest.tools.items())
    return (
        Listing(
            (
                f"Network: {network.get('architecture', 'unknown')}, {start}; served in {manifest.variant}.",
                *([_teaching(manifest, taught)] if taught else []),
                f"Exported: {manifest.created_at}.",
                f"Made with: {tools or 'unknown tools'}.",
            )
        ),
    )


def _teaching(manifest: Manifest, taught: Mapping[str, Any]) -> str:
    name = manifest.training.get("schedule", {}).get("teacher", "another network")
    photos = (manifest.data.get("unlabelled") or {}).get("photos", 0)
    besides = f", on {photos:,} photos without labels too" if photos else ""
    seen = taught.get("test_photos_seen")
    flattered = f" That one was trained on {seen:,} of the test photos, whose figures flatter." if seen else ""
    return f"It learned from {name} (SHA-256 {taught.get('sha256')}){besides}.{flattered}"


def _dataset(manifest: Manifest) -> str:
    return str(manifest.data.get("dataset", ""))


def _listed(labels: tuple[str, ...], most: int = 30) -> str:
    rest = f" and {len(labels) - most} more" if len(labels) > most else ""
    return ", ".join(labels[:most]) + rest
