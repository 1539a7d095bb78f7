"""Counts: they add up in any order, each span once; histograms, quantiles, and what is stored of them."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from classifier.errors import InvalidManifest
from classifier.traffic.counts import LATENCY_EDGES, MOST_LABELS, OTHERS, Counts, Row, quantile
from classifier.traffic.spans import Span, fold, total


def counts(number: int, version: str = "v1") -> Counts:
    made = Counts()
    row = made.row(version, "production")
    for each in range(number):
        row.add_request(200 if each % 5 else 503, 7.0 * each)
        row.add_photo("pizza" if each % 2 else "soup", each / number, unknown=each % 3 == 0, cached=each % 4 == 0)
    return made


def span(identity: str, number: int, hour: int = 0) -> Span:
    return Span(identity, f"2026-01-01T{hour:02}:00:00Z", f"2026-01-01T{hour:02}:01:00Z", counts(number))


def test_spans_add_up_in_any_order_and_each_once():
    spans = [span("a", 10), span("b", 4), span("c", 7)]
    expected = total(spans)
    assert expected.rows["v1", "production"].requests == 21
    for order in itertools.permutations([*spans, span("a", 10)]):
        assert total(order) == expected
    folded = fold("hour", None, spans[:2])
    assert total([folded, *spans]) == expected
    assert total([spans[2], spans[0], folded]) == expected
    assert total([fold("hour2", folded, [*spans]), folded]) != total([folded])
    assert fold("again", folded, spans[:2]).counts == folded.counts
    assert total([fold("more", folded, spans)]) == expected


def test_what_is_written_is_read_and_names_nobody():
    one = span("a", 12)
    one.counts.problems["v2 memory"] += 3
    assert Span.from_json(one.to_json(), "x") == one
    folded = fold("f", None, [one])
    assert Span.from_json(folded.to_json(), "x") == folded
    stored = json.loads(one.to_json())
    assert set(stored) == {"schema_version", "id", "began", "ended", "rows", "problems"}
    assert set(stored["rows"][0]) == {
        "version", "channel", "requests", "statuses", "photos", "labels", "unknown", "cache_hits", "confidence",
        "latency",
    }  # fmt: skip


def test_a_row_says_what_was_counted():
    row = counts(20).rows["v1", "production"]
    assert (row.requests, row.photos, row.errors, row.unknown, row.cache_hits) == (20, 20, 4, 7, 5)
    assert row.labels == {"pizza": 10, "soup": 10}
    assert row.unknown_share == 0.35
    assert row.mean_confidence == pytest.approx(0.5, abs=0.03)
    assert sum(row.latency) == sum(row.confidence) == 20
    assert Row().mean_confidence == Row().unknown_share == 0.0


def test_a_label_that_is_one_too_many_counts_among_the_others():
    row = Row()
    for number in range(MOST_LABELS + 10):
        row.add_photo(str(number), 1.0, unknown=False, cached=False)
    assert row.labels[OTHERS] == 10
    assert len(row.labels) == MOST_LABELS + 1
    assert row.confidence[-1] == MOST_LABELS + 10


def test_quantiles_are_near_the_true_ones():
    times = np.random.default_rng(1).lognormal(3, 0.7, 5000)
    row = Row()
    for each in times:
        row.add_request(200, float(each))
    for share in (0.5, 0.95, 0.99):
        assert quantile(row.latency, share) == pytest.approx(np.quantile(times, share), rel=0.2)
    assert quantile([0] * (len(LATENCY_EDGES) + 1), 0.5) is None
    slow = Row()
    slow.add_request(200, 1e9)
    assert quantile(slow.latency, 0.5) == LATENCY_EDGES[-1]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"rows": [{"version": "v1", "channel": "", "requests": -1}]}, "rows.0.requests"),
        ({"problems": {"v2 memory": "3"}}, "problems.v2 memory"),
        ({"began": "yesterday"}, "began"),
    ],
)
def test_what_cannot_be_read_is_named(change, field):
    plain = json.loads(span("a", 1).to_json())
    with pytest.raises(InvalidManifest) as raised:
        Span.from_json(json.dumps({**plain, **change}).encode(), "food/stats/x.json")
    assert raised.value.field == field
    assert "food/stats/x.json" in str(raised.value)
