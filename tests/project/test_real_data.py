"""Real photos and weights, in place: the layouts load as they are, and the README's commands reach their figures."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from classifier.registry.bundle import read_bundle
from tests.support.real_data import DATA, WEIGHTS, needs_photos, needs_weights
from trainer.data.loaders import load
from trainer.networks.backbones import backbone_core, build_backbone
from trainer.run.sections import DataConfig, NetworkConfig

TRAINER = Path(sys.executable).parent / "trainer"
MOBILENET_V2 = WEIGHTS / "mobilenet_v2_1.0_224_no_top.weights.h5"


@needs_photos
def test_the_official_layouts_load_as_they_are():
    food = load(DataConfig("food-101", str(DATA / "food-101")))
    listed = {split: (DATA / f"food-101/meta/{split}.txt").read_text().split() for split in ("train", "test")}
    assert (food["split"] == "test").sum() == len(listed["test"])
    assert len(food) == len(listed["train"]) + len(listed["test"])
    assert (food["split"] == "validation").sum() == pytest.approx(0.1 * len(listed["train"]), rel=0.05)
    dogs = load(DataConfig("dog-breed", str(DATA / "dog-breed")))
    assert len(dogs) == len((DATA / "dog-breed/labels.csv").read_text().splitlines()) - 1
    assert (dogs["split"] == "test").mean() == pytest.approx(0.2, abs=0.01)
    shares = dogs[dogs["split"] == "test"].groupby("label").size() / dogs.groupby("label").size()
    assert shares.between(0.15, 0.25).all()


@needs_weights
@pytest.mark.parametrize(
    ("config", "channels"),
    [
        (NetworkConfig("efficientnet_lite2", str(WEIGHTS / "efficientnet_lite2_no_top.weights.h5")), 1280),
        (NetworkConfig("mobilenet_v2", str(MOBILENET_V2)), 1280),
        (NetworkConfig("mobilenet", str(WEIGHTS / "mobilenet_0.75_224_no_top.weights.h5"), alpha=0.75), 768),
        (
            NetworkConfig(
                "inception_v3",
                str(WEIGHTS / "inception_v3_through_mixed8_no_top_float.weights.h5"),
                backbone_layer="mixed8",
            ),
            1280,
        ),
    ],
)
def test_the_weights_files_fit_their_networks(config, channels):
    backbone = build_backbone(config)
    assert backbone.output_shape[-1] == channels
    random = build_backbone(replace(config, weights="none"))
    assert not np.array_equal(backbone_core(backbone).get_weights()[0], backbone_core(random).get_weights()[0])


@needs_weights
@pytest.mark.parametrize("name", ["efficientnet_lite0", "efficientnet_lite2"])
def test_the_packages_have_the_imagenet_weights_that_were_published(name):
    found = build_backbone(NetworkConfig(name, "imagenet"))
    expected = build_backbone(NetworkConfig(name, str(WEIGHTS / f"{name}_no_top.weights.h5")))
    for one, other in zip(found.get_weights(), expected.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@needs_photos
@needs_weights
@pytest.mark.real_data
@pytest.mark.parametrize(
    ("dataset", "options", "least", "ood"),
    [
        # For time, a shorter fine-tuning than the README's, and of the dogs the variant alone that is chosen there.
        ("food-101", ("--fine-tune-epochs", "3"), 0.76, "dog-breed/train"),
        ("dog-breed", ("--fine-tune-epochs", "0", "--variant", "int8"), 0.96, "food-101/images"),
    ],
)
def test_the_served_model_is_as_good_as_the_readme_says(dataset, options, least, ood, tmp_path):
    command = [
        TRAINER, "train", "--dataset", dataset, "--data-dir", DATA / dataset, "--architecture", "mobilenet_v2",
        "--weights", MOBILENET_V2, *options, "--no-report", "--run", tmp_path / "run",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    sys.stdout.write(done.stdout)
    manifest = read_bundle(tmp_path / "run/bundle")
    assert manifest.metrics["test"]["top_1"] >= least
    assert manifest.metrics["unknown"]["accepted"]["validation"] >= 0.95
    # The score was chosen and fitted without them.
    command = [TRAINER, "evaluate", tmp_path / "run", "--ood", DATA / ood, "--json"]
    told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)["ood"]
    sys.stdout.write(f"{told}\n")
    assert told["auroc"] >= 0.95
    assert told["rejected"] >= 0.9
    assert told["accepted"] >= 0.9
