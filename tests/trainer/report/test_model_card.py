"""The model card and the table of files: terms, warnings, intervals, and what an older bundle does not know."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest

from classifier.registry.manifest import FileEntry, InputSpec, Manifest
from trainer.report import model_card, trust
from trainer.report.document import to_markdown
from trainer.report.output import Output

FIGURES = {
    "train": {"photos": 900, "top_1": 1.0},
    "test": {
        "photos": 400, "top_1": 0.975, "top_1_low": 0.9546, "top_1_high": 0.9863, "f1": 0.9747, "f1_low": 0.958,
        "f1_high": 0.988, "log_loss": 0.0874,
    },
}  # fmt: skip


def _manifest(dataset: str, **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "labels": ("apple_pie", "a|b*c", "寿司"),
        "input": InputSpec(224, 224),
        "files": {"model.tflite": FileEntry("0" * 64, 1)},
        "created_at": "2026-01-31T12:00:00Z",
        "data": {"dataset": dataset, "photos": {"train": 900, "test": 400}, "rejected": 3, "fingerprint": "f" * 64},
        "training": {"network": {"architecture": "mobilenet_v2", "weights": "imagenet"}},
        "thresholds": {"unknown": 0.417},
    }
    return Manifest(**{**fields, **changes})


def _card(dataset: str, licence: str | None = None, **changes: Any) -> str:
    return to_markdown("Model card", model_card.sections(_manifest(dataset, **changes), FIGURES, licence))


@pytest.mark.parametrize(
    ("dataset", "terms"),
    [
        ("food-101", "scientific fair use"),
        ("dog-breed", "non-commercial research"),
        ("folder", "Yours: state it"),
        ("csv", "Yours: state it"),
    ],
)
def test_the_terms_of_the_photos_are_stated(dataset, terms):
    assert terms in _card(dataset)
    stated = _card(dataset, licence="CC BY 4.0, Kim 2026")
    assert "Licence of the photos: CC BY 4.0, Kim 2026" in stated
    assert terms not in stated


def test_only_the_dogs_come_with_the_warning_that_they_were_seen_before():
    assert _card("dog-breed").count("**Warning.** The dog photos come from ImageNet") == 2
    assert "Warning" not in _card("food-101")
    assert not model_card.warnings(_manifest("folder"))


def test_the_figures_have_their_intervals():
    card = _card("food-101")
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", card, flags=re.MULTILINE))
    assert rows["figure"] == "test", "the figures on training photos say nothing of others"
    assert rows["top-1 accuracy"] == "97.5% (95.5% to 98.6%)"
    assert rows["F1, mean of the classes"] == "0.975 (0.958 to 0.988)"
    assert rows["log-loss, nats"] == "0.087"
    assert rows["top-5 accuracy"] == "not measured"


def test_the_card_says_where_the_model_ends():
    card = _card("food-101")
    assert "status unknown where its score is below 0.417" in card
    assert "224 x 224 pixels of the whole photo, stretched" in card
    assert "of the photo's middle" in _card("food-101", input=InputSpec(299, 299, "crop"))
    assert "from scratch" in _card("folder", training={"network": {"architecture": "base_cnn", "weights": "none"}})


def test_the_card_names_the_teacher_and_what_it_has_seen():
    training = {"network": {"architecture": "mobilenet_v2", "weights": "imagenet"}, "schedule": {"teacher": "v7"}}
    taught = {"version": "v7", "sha256": "ab12", "test_photos_seen": 0}
    card = _card("folder", training={**training, "teacher": taught}, data={"unlabelled": {"photos": 1234}})
    assert "It learned from v7 (SHA-256 ab12), on 1,234 photos without labels too." in card
    assert "flatter" not in card and "learned from" not in _card("folder")
    assert "on 3 of the test photos, whose figures flatter" in _card(
        "folder", training={**training, "teacher": {**taught, "test_photos_seen": 3}}
    )


def test_an_older_bundle_has_a_card_too():
    card = _card("food-101", data={}, training={}, thresholds={}, tools={})
    assert "not measured" in card
    assert "status unknown" not in card


def test_the_table_of_files_has_their_memory_and_names_those_that_failed(tmp_path):
    row = {"top_1": 0.9, "agreement": 1.0, "heatmap_correlation": 1.0, "latency_ms": 3.5, "bytes": 9_000_000}
    more = {"latency_all_cpus_ms": 1.9, "log_loss_increase": 0.012, "log_loss_increase_high": 0.03,
            "top_1_loss_high": 0.021, "memory_bytes": 31_000_000}  # fmt: skip
    variants = {"float32": {**row, **more}, "float16": row, "int8": {"failed": "[no] photo"}}
    manifest = _manifest("folder", variants=variants, metrics={"latency_cpus": {"serving": 1, "all": 2}})
    told = SimpleNamespace(manifest=manifest)
    section = trust.variants(told, Output(tmp_path))
    text = to_markdown("Report", [section])
    assert "| float32 (served) | 90.0% | +0.012 | 100.0% | 1.000 | 3.5 | 1.9 | 9.0 | 31 |" in text
    assert "| float16 | 90.0% | not measured | 100.0% | 1.000 | 3.5 | not measured | 9.0 | not measured |" in text
    assert "loses 2.1 points of top-1 and 0.030 in log-loss (95 % bounds of the paired differences)" in text
    assert "as a function with 1 CPU serves, and with all 2." in text
    assert "- int8 could not be made: \\[no\\] photo" in text
    assert "| int8" not in text
    assert (tmp_path / "tables/variants.csv").is_file()


def test_labels_are_written_so_that_markdown_shows_them():
    card = _card("food-101")
    assert "apple_pie, a\\|b\\*c, 寿司." in card
    many = _card("food-101", labels=tuple(f"class {number}" for number in range(101)))
    assert "class 29 and 71 more." in many
    hidden = _card("folder", licence="https://a.org/terms_of_use, and http://<script>alert(1)</script> https://b|c")
    assert "https://a.org/terms_of_use, and http://\\<script\\>alert(1)\\</script\\> https://b\\|c" in hidden
