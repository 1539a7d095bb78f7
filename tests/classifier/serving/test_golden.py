"""Golden photos, replayed on a real model before a version is published or promoted."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from classifier.errors import Corrupt, Refused
from classifier.registry.manifest import Manifest
from classifier.registry.rules import Registry
from classifier.serving import golden
from tests.support.bundles import files_of
from tests.support.registries import bundle_fixture, local_fixture, names, promote, registry_fixture  # noqa: F401  # fixtures


class TestGoldenReplay:
    """The real replay, on a real model."""

    def test_a_real_version_is_published_promoted_and_verified(self, registry: Registry, tiny_bundle: Path) -> None:
        manifest = registry.publish(tiny_bundle, who="kim", replay=golden.replay)
        promote(registry, "v1", replay=golden.replay)
        checked = registry.verify("v1", replay=golden.replay)
        assert [each.name for each in checked] == sorted(manifest.files)
        assert len(manifest.golden) == 8

    def test_a_probability_outside_the_tolerance_is_refused(self, local: Registry, tiny_bundle: Path) -> None:
        rewrite(tiny_bundle, lambda manifest: {"golden": (_shifted(manifest, 0.02), *manifest.golden[1:])})
        with pytest.raises(
            Refused,
            match=r"golden/0\.png does not repeat: expected 'green' with probability 0\.0201 ± 0\.01; found 0\.0001",
        ):
            local.publish(tiny_bundle, who="kim", replay=golden.replay)

    def test_a_probability_inside_the_tolerance_passes(self, local: Registry, tiny_bundle: Path) -> None:
        rewrite(tiny_bundle, lambda manifest: {"golden": (_shifted(manifest, 0.009), *manifest.golden[1:])})
        assert local.publish(tiny_bundle, who="kim", replay=golden.replay).version == "v1"

    def test_another_photo_is_refused(self, local: Registry, tiny_bundle: Path) -> None:
        (tiny_bundle / "golden/0.png").write_bytes((tiny_bundle / "golden/3.png").read_bytes())
        rewrite(tiny_bundle, lambda manifest: {"files": files_of(tiny_bundle)})
        with pytest.raises(Refused, match=r"golden/0\.png does not repeat"):
            local.publish(tiny_bundle, who="kim", replay=golden.replay)

    def test_a_photo_that_cannot_be_read_is_refused(self, local: Registry, tiny_bundle: Path) -> None:
        (tiny_bundle / "golden/5.png").write_bytes(b"not a photo")
        rewrite(tiny_bundle, lambda manifest: {"files": files_of(tiny_bundle)})
        with pytest.raises(Refused, match=r"golden/5\.png cannot be read"):
            local.publish(tiny_bundle, who="kim", replay=golden.replay)

    def test_a_model_of_another_size_or_with_other_labels_is_refused(self, local: Registry, tiny_bundle: Path) -> None:
        rewrite(tiny_bundle, lambda manifest: {"labels": (*manifest.labels, "violet"), "golden": ()})
        with pytest.raises(Corrupt, match=r"32 x 32 pixels and to know 5 classes.*knows 4"):
            local.publish(tiny_bundle, who="kim", replay=golden.replay)

    def test_what_is_not_a_model_is_refused(self, local: Registry, bundle: Path) -> None:
        with pytest.raises(Corrupt, match="LiteRT"):
            local.publish(bundle, who="kim", replay=golden.replay)
        assert names(local.store) == []


def rewrite(bundle: Path, change: Callable[[Manifest], dict[str, Any]]) -> None:
    path = bundle / "manifest.json"
    manifest = Manifest.from_json(path.read_bytes())
    path.write_bytes(dataclasses.replace(manifest, **change(manifest)).to_json())


def _shifted(manifest: Manifest, by: float) -> Any:
    """The first golden case, with the second label's probability that much higher."""
    case = manifest.golden[0]
    first, second, *rest = case.probabilities
    return dataclasses.replace(case, probabilities=(first, second + by, *rest))
