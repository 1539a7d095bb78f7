"""Which of the exported files is served, and what is said of the others."""

from __future__ import annotations

import dataclasses
import io
import re

import numpy as np
import pytest
from rich.console import Console

from classifier.errors import InvalidRequest
from trainer.export.choice import LEAST_LOG_LOSS, choose
from trainer.export.litert import VARIANTS
from trainer.export.measuring import Compared, Variant
from trainer.metrics.comparison import Comparison, Damage, compare, damage


def _variant(name: str, top_1: float, latency_ms: float, size: int) -> Variant:
    loss = 0.80 - top_1
    lost = Damage(200, 0.9, 0.85, loss, loss + 0.02, 0.0, LEAST_LOG_LOSS)
    measured = Comparison(loss, loss - 0.02, 0.0, -0.01)
    return Variant(name, b"x" * size, top_1, measured, lost, 0.9, latency_ms, latency_ms / 2, None)


MEASURED = [
    _variant("float32", 0.80, 10.0, 90),
    _variant("float16", 0.80, 10.1, 45),
    _variant("int8-dynamic", 0.796, 6.1, 25),
    _variant("int8", 0.79, 3.0, 24),
]


def test_a_gain_on_few_photos_does_not_hide_a_file_that_is_less_sure():
    """70 photos, two more right than float32's, and yet the truth lost probability nearly everywhere."""
    rng = np.random.default_rng(3)
    truth = np.zeros(70, np.int32)
    sure = rng.uniform(0.55, 0.95, 70)
    reference = np.stack([sure, 1 - sure], 1).astype(np.float32)
    worse = sure - rng.uniform(0, 0.3, 70).clip(0, sure - 0.51)
    found = np.stack([worse, 1 - worse], 1).astype(np.float32)
    reference[:2], found[:2] = (0.499, 0.501), (0.501, 0.499)
    told = compare(reference, found, truth)
    assert told.top_1_loss < 0
    fast = dataclasses.replace(MEASURED[3], comparison=told, damage=damage(reference, found))
    choice = choose([MEASURED[0], fast], {}, 0.005)
    assert choice.served.name == "float32"
    assert re.fullmatch(
        r"may lose 0\.\d{3} in log-loss against float32 \(95% bound\), more than 0\.050", choice.refused["int8"]
    )
    assert choose([MEASURED[0], fast], {}, 0.05).served.name == "int8"


def test_what_labels_prove_speaks_against_a_file_whatever_float32_believes():
    """A float32 file that takes nothing for sure: by its probabilities other labels are as good."""
    truth = np.zeros(200, np.int32)
    reference, found = (np.tile(np.float32(each), (200, 1)) for each in ((0.501, 0.499), (0.501, 0.499)))
    found[:40] = (0.499, 0.501)
    spoilt = dataclasses.replace(
        MEASURED[3], comparison=compare(reference, found, truth), damage=damage(reference, found)
    )
    assert spoilt.damage.top_1_loss < 0.005
    choice = choose([MEASURED[0], spoilt], {}, 0.005)
    assert choice.refused["int8"] == (
        "loses 20.0 points of top-1 on the validation photos, and more than the tolerance of 0.5 by the 95% bound"
    )


@pytest.mark.parametrize(
    ("tolerance", "expected"), [(0.0, "float16"), (0.005, "int8-dynamic"), (0.01, "int8"), (1.0, "int8")]
)
def test_the_fastest_within_the_tolerance_is_served_and_the_smaller_of_equals(tolerance, expected):
    choice = choose(MEASURED, {}, tolerance)
    assert choice.served.name == expected
    assert not choice.overridden
    assert choice.warning is None
    assert "overridden" not in choice.table()[expected]


def test_a_variant_asked_for_is_served_whatever_it_loses():
    choice = choose(MEASURED, {}, 0.005, "int8")
    assert choice.served.name == "int8"
    assert choice.table()["int8"]["overridden"] is True
    assert choice.warning == (
        "int8 loses 1.0 points of top-1 against float32, more than the tolerance of 0.5; "
        "it is served because --variant asks for it."
    )
    within = choose(MEASURED, {}, 0.005, "float16")
    assert (within.served.name, within.warning) == ("float16", None)
    with pytest.raises(InvalidRequest, match=r"int8 cannot: no photo\."):
        choose(MEASURED[:3], {"int8": "no photo"}, 0.005, "int8")


def test_the_table_tells_what_failed_and_fits_a_terminal():
    measured = [*MEASURED[:1], dataclasses.replace(MEASURED[2], memory=123_456_789)]
    choice = choose(measured, {"float16": "cannot", "int8": "[no] photo"}, 0.0, "int8-dynamic")
    table = choice.table()
    assert list(table) == list(VARIANTS)
    assert table["int8"] == {"failed": "[no] photo"}
    assert table["int8-dynamic"]["memory_bytes"] == 123_456_789
    assert "memory_bytes" not in table["float32"]
    said = io.StringIO()
    choice.show(Console(file=said, width=80), Compared(np.arange(200), np.zeros(200, np.int32)), 1)
    lines = said.getvalue().splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("variants, top-1 of 200 validation photos")
    assert any(re.match(r"\* int8-dynamic +79\.6% .* 123 *$", line) for line in lines)
    assert "int8 could not be made: [no] photo" in lines
    assert any(line.startswith("warning: int8-dynamic loses 0.4 points") for line in lines)
