"""When a score for the unknown cannot be believed, and what is said of it."""

from __future__ import annotations

import pytest

from trainer.metrics.separation import doubt

SCRATCH, PRETRAINED = {"network": {"weights": "none"}}, {"network": {"weights": "imagenet"}}
FEW, MANY = {"photos": {"train": 270}}, {"photos": {"train": 50_000}}


@pytest.mark.parametrize(
    ("unknown", "training", "data", "told"),
    [
        ({}, SCRATCH, FEW, "trained from scratch on 270 photos"),
        ({}, SCRATCH, {}, "trained from scratch on 0 photos"),
        ({}, SCRATCH, MANY, None),
        ({}, PRETRAINED, FEW, None),
        ({}, {}, {}, None),
        # What was measured goes before what is presumed.
        ({"ood": {"photos": 500, "rejected": 0.97}}, SCRATCH, FEW, None),
        ({"ood": {"photos": 500, "rejected": 0.05}}, SCRATCH, FEW, "Of 500 photos of other things 95.0% pass"),
        ({"ood": {"photos": 1500, "rejected": 0.7}}, PRETRAINED, MANY, "Of 1,500 photos of other things 30.0% pass"),
    ],
)
def test_a_score_is_doubted_where_ood_photos_pass_or_must_be_expected_to(unknown, training, data, told):
    found = doubt(unknown, training, data)
    assert found is None if told is None else told in found
