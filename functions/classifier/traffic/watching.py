"""Whether a canary behaves like production: five tests of what both did in the same time, corrected for looking often.

Each look may be the one at which chance alone looks bad. So look number k may spend only ALPHA * 6 / (pi^2 k^2) of the
error that is allowed in all, which sums to ALPHA however often one looks (alpha spending), divided among the tests
(Bonferroni). The number of a look follows from the time since the share was set, so that nobody has to remember it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from classifier.registry.gate import Gate
from classifier.traffic.counts import CONFIDENCE_BUCKETS, LATENCY_EDGES, Row, quantile
from classifier.traffic.drift import LARGE, of_labels

ALPHA = 0.01
"""How often a canary as good as production may be aborted, in all looks together."""
TESTS = 5
LEAST_REQUESTS = 30
"""Of each side, before anything is said of answers; errors are looked at from the first request on."""
ERRORS_RISE = 0.005
CONFIDENCE_CHANGE = 0.05
LOOK_EVERY = 60.0
"""Seconds; what instances count arrives once a minute."""


@dataclass(frozen=True)
class Finding:
    """One difference between canary and production."""

    what: str
    production: float
    canary: float
    p: float
    """Of a difference as large by chance alone."""
    beyond: bool
    """Whether it is beyond chance and larger than is tolerated."""
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "what": self.what,
            "production": round(self.production, 6),
            "canary": round(self.canary, 6),
            "p": float(f"{self.p:.3g}"),
            "beyond": self.beyond,
        }


def look_number(seconds: float) -> int:
    """Return which look this is, so many seconds after the share was set."""
    return max(1, int(seconds // LOOK_EVERY))


def allowed(look: int) -> float:
    """Return the p-value below which one test's difference counts at a look."""
    return ALPHA * 6 / (math.pi**2 * look**2) / TESTS


def compare(production: Row, canary: Row, gate: Gate, look: int) -> list[Finding]:
    """Compare what both did in the same time.

    Args:
        production: its counts since the share was set.
        canary: the same of the canary.
        gate: says what is tolerated of unknown photos and of latency.
        look: see `look_number`.
    """
    limit = allowed(look)
    findings = [_errors(production, canary, limit)]
    if min(production.requests, canary.requests) >= LEAST_REQUESTS:
        findings.append(_latency(production, canary, gate, limit))
    if min(production.photos, canary.photos) >= LEAST_REQUESTS:
        findings += [
            _unknown(production, canary, gate, limit),
            _confidence(production, canary, limit),
            _labels(production, canary, limit),
        ]
    return findings


def _errors(production: Row, canary: Row, limit: float) -> Finding:
    shares = (each.errors / max(1, each.requests) for each in (production, canary))
    before, after = shares
    p = more_often((production.errors, production.requests), (canary.errors, canary.requests))
    beyond = p < limit and after - before > ERRORS_RISE
    return Finding("errors", before, after, p, beyond, f"{after:.1%} of its requests fail, production's {before:.1%}")


def _unknown(production: Row, canary: Row, gate: Gate, limit: float) -> Finding:
    before, after = production.unknown_share, canary.unknown_share
    sides = (production.unknown, production.photos), (canary.unknown, canary.photos)
    p = min(1.0, 2 * more_often(*sides), 2 * more_often(*sides[::-1]))
    beyond = p < limit and abs(after - before) > gate.unknown_rise
    return Finding(
        "unknown", before, after, p, beyond, f"{after:.1%} of its photos are unknown, production's {before:.1%}"
    )


def _latency(production: Row, canary: Row, gate: Gate, limit: float) -> Finding:
    """Compare how many requests of each take longer than the bucket that holds production's 95th percentile."""
    edge = quantile(production.latency, 0.95) or 0.0
    over = next((number for number, each in enumerate(LATENCY_EDGES) if each >= edge), len(LATENCY_EDGES)) + 1
    slow = [sum(each.latency[over:]) for each in (production, canary)]
    p = more_often((slow[0], production.requests), (slow[1], canary.requests))
    before, after = (quantile(each.latency, 0.95) or 0.0 for each in (production, canary))
    beyond = p < limit and after > before * gate.latency_ratio
    return Finding("p95_ms", before, after, p, beyond, f"its p95 is {after:.0f} ms, production's {before:.0f} ms")


def _confidence(production: Row, canary: Row, limit: float) -> Finding:
    """Compare the mean confidence (Welch)."""
    means = [each.mean_confidence for each in (production, canary)]
    error = math.sqrt(sum(_variance(each) / max(1, each.photos) for each in (production, canary)))
    difference = means[1] - means[0]
    p = math.erfc(abs(difference) / error / math.sqrt(2)) if error else float(difference == 0)
    beyond = p < limit and abs(difference) > CONFIDENCE_CHANGE
    text = f"its mean confidence is {means[1]:.1%}, production's {means[0]:.1%}"
    return Finding("confidence", means[0], means[1], p, beyond, text)


def _labels(production: Row, canary: Row, limit: float) -> Finding:
    """Compare the labels given (chi-squared), as far as they are frequent enough for it."""
    statistic, freedom = _chi_squared(production, canary)
    p = chi_squared_tail(statistic, freedom) if freedom else 1.0
    index = of_labels(production.labels, canary.labels) or 0.0
    beyond = p < limit and index > LARGE
    text = f"its labels are distributed otherwise than production's (stability index {index:.2f})"
    return Finding("labels", 0.0, index, p, beyond, text)


def _chi_squared(production: Row, canary: Row) -> tuple[float, int]:
    """Return the statistic and its degrees of freedom; labels with fewer than five expected count together."""
    total = production.photos + canary.photos
    share = canary.photos / total
    cells: list[tuple[int, int]] = []
    rare = [0, 0]
    for label in production.labels.keys() | canary.labels.keys():
        one, other = production.labels[label], canary.labels[label]
        if (one + other) * min(share, 1 - share) < 5:
            rare[0] += one
            rare[1] += other
        else:
            cells.append((one, other))
    if sum(rare) * min(share, 1 - share) >= 5:
        cells.append((rare[0], rare[1]))
    statistic = 0.0
    for one, other in cells:
        both = one + other
        statistic += (one - both * (1 - share)) ** 2 / (both * (1 - share)) + (other - both * share) ** 2 / (
            both * share
        )
    return statistic, max(0, len(cells) - 1)


def _variance(row: Row) -> float:
    mean = row.mean_confidence
    middles = [(number + 0.5) / CONFIDENCE_BUCKETS for number in range(CONFIDENCE_BUCKETS)]
    squares = sum(count * (middle - mean) ** 2 for count, middle in zip(row.confidence, middles, strict=True))
    return squares / max(1, sum(row.confidence) - 1)


def more_often(first: tuple[int, int], second: tuple[int, int]) -> float:
    """Return Fisher's exact one-sided p-value that the second happens more often than the first.

    Args:
        first: how often, and of how many.
        second: the same.
    """
    hits, size, total = second[0], second[1], first[1] + second[1]
    both = first[0] + second[0]
    if not size or not first[1]:
        return 1.0
    base = _log_choose(total, size)
    highest = min(size, both)
    terms = (
        math.exp(_log_choose(both, k) + _log_choose(total - both, size - k) - base)
        for k in range(hits, highest + 1)
        if size - k <= total - both
    )
    return min(1.0, sum(terms))


def chi_squared_tail(statistic: float, freedom: int) -> float:
    """Return the probability that chi-squared exceeds a value (Wilson and Hilferty 1931), good far into the tail."""
    if statistic <= 0:
        return 1.0
    z = ((statistic / freedom) ** (1 / 3) - (1 - 2 / (9 * freedom))) / math.sqrt(2 / (9 * freedom))
    return 0.5 * math.erfc(z / math.sqrt(2))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
