"""What `serving.py` measured, as tables: every function, ratios beside their aims, and where the time goes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

from bench.measured import STEPS, Measured, Round, percentile


@dataclass
class Group:
    """The functions that serve one network."""

    architecture: str
    multiplications: int
    """With weights, for one photo."""
    classic: Measured
    compiled: Measured
    pointers: dict[str, Measured]
    """Pointer's by variant."""
    cached_ms: float = math.nan
    """A label that the result cache had."""

    @property
    def functions(self) -> list[Measured]:
        """All, in the order of the first round: the classic function beside Pointer's."""
        return [self.classic, *self.pointers.values(), self.compiled]

    @property
    def served(self) -> Measured:
        """Pointer's with the fastest forward pass. Which variant is accurate enough, random weights cannot tell."""
        return min(self.pointers.values(), key=lambda each: each.forward_ms)

    def figures(self) -> dict[str, Any]:
        """Return the figures over all rounds, for `--json`."""
        return {
            "name": self.architecture,
            "multiplications": self.multiplications,
            "served": self.served.name,
            "cached_label_p50_ms": None if math.isnan(self.cached_ms) else round(self.cached_ms, 2),
            "functions": [function.figures() for function in self.functions],
            "ratios": [
                {
                    "aim": aim.name,
                    "at_least": aim.at_least(self.architecture),
                    **{each.name: ratios_of(aim, self.classic, each) for each in self.pointers.values()},
                }
                for aim in AIMS
            ],
        }


class Aim(NamedTuple):
    """A figure of a round, and how many times better than the classic function's it is to be."""

    name: str
    of: Callable[[Round], float]
    least: float | dict[str, float]
    """A number, or one for each architecture that has an aim."""
    larger_is_better: bool = False

    def at_least(self, architecture: str) -> float | None:
        """Return the aim for one network."""
        return self.least.get(architecture) if isinstance(self.least, dict) else self.least


AIMS = (
    Aim("start to first label", lambda each: each.first_ms, 5),
    Aim("label, p50", lambda each: percentile(each.label_ms, 0.5), {"mobilenet_v2": 8, "xception": 2.5}),
    Aim("label with overlay, p50", lambda each: percentile(each.overlay_ms, 0.5), 8),
    Aim("memory (PSS)", lambda each: each.memory.pss, 4),
    Aim("labels/s, 8 clients", lambda each: each.a_second, 3, larger_is_better=True),
)


def ratios_of(aim: Aim, peer: Measured, function: Measured) -> list[float]:
    """Return how many times better than the peer the function is, in each round."""
    pairs = [(aim.of(theirs), aim.of(ours)) for theirs, ours in zip(peer.rounds, function.rounds, strict=True)]
    return [ours / theirs if aim.larger_is_better else theirs / ours for theirs, ours in pairs]


def show(report: dict[str, Any], empty: Measured, groups: Sequence[Group]) -> None:
    """Print everything, in 80 columns."""
    print(
        f"{report['cpus']} CPUs ({report['processor']}), load {report['load_before']} before, "
        f"{report['load_after']} after; {report['starts']} starts of each function,\n"
        f"each asked for {report['requests']} labels, then for a third as many overlays, then by 8 clients\n"
        f"Python {report['python']}, TensorFlow {report['tensorflow']}, Keras {report['keras']}, "
        f"LiteRT {report['ai-edge-litert']}, Pillow {report['pillow']},\n"
        f"functions-framework {report['functions-framework']}, firebase-functions {report['firebase-functions']}"
    )
    met: list[bool] = []
    for group in groups:
        print()
        show_functions(group, empty)
        print()
        met += show_ratios(group)
        print()
        show_times(group, empty, report["sgemm"])
    print(
        f"\n{sum(met)} of {len(met)} aims met by the variants marked *, whose forward pass is the fastest."
        "\nclassic: model.predict, GradientTape; compiled: the same as tf.function."
        "\nPSS: all processes, shared pages counted once; RSS: the largest; both at the end."
        "\nothers: of a label, in none of the steps before: HTTP, framework, JSON, log."
        f"\nsgemm: all multiplications by weights at numpy's rate, {report['sgemm']:.0f} 10^9/s in float32."
    )


def show_functions(group: Group, empty: Measured) -> None:
    """Print a line a function: what a caller sees, and what the platform charges."""
    print(
        f"{group.architecture:20} start to         label       overlay   memory, MB    labels/s\n"
        f"{'ms; medians':20}1st label    p50    p99    p50    p99    PSS    RSS  8 clients"
    )
    for function in (empty, *group.functions):
        each = function.figures()
        overlay = f"{'-':>7}{'-':>7}"
        if function.kind != "empty":
            overlay = f"{each['overlay_p50_ms']:7.1f}{each['overlay_p99_ms']:7.1f}"
        print(
            f"{marked(function, group):20}{each['first_ms']:9.0f}{each['label_p50_ms']:7.1f}"
            f"{each['label_p99_ms']:7.1f}{overlay}{each['pss_mb']:7.0f}{each['rss_mb']:7.0f}"
            f"{each['labels_a_second']:11.1f}"
        )


def show_ratios(group: Group) -> list[bool]:
    """Print how many times better Pointer is, with the aims; return whether the served variant meets each."""
    served = group.served
    others = [each for each in group.pointers.values() if each is not served][:1]
    print(
        f"{'':25}aim  {f'{marked(served, group)} to classic':31}{'compiled':10}"
        + "".join(f"{each.name.removeprefix('Pointer, ')}" for each in others)
    )
    met = []
    for aim in AIMS:
        least, ratios = aim.at_least(group.architecture), ratios_of(aim, group.classic, served)
        found = shown(median(ratios))
        if len(ratios) > 1:
            found += f" ({shown(min(ratios))} to {shown(max(ratios))})"
        if least is not None:
            met.append(median(ratios) >= least)
        line = f"{aim.name:24}{'-' if least is None else f'{least:g}':>4}  {found:<22}{verdict(ratios, least):<9}"
        line += f"{shown(median(ratios_of(aim, group.compiled, served))):<10}"
        for other in others:
            ratios = ratios_of(aim, group.classic, other)
            line += f"{shown(median(ratios))} {verdict(ratios, least)}"
        print(line.rstrip())
    return met


def shown(ratio: float) -> str:
    """Return a ratio with three digits, so that one just below its aim does not look like the aim."""
    return f"{ratio:.2f}" if ratio < 10 else f"{ratio:.1f}"


def verdict(ratios: list[float], least: float | None) -> str:
    """Say whether the aim is met."""
    if least is None:
        return ""
    return "met" if median(ratios) >= least else "NOT MET"


def show_times(group: Group, empty: Measured, sgemm: float) -> None:
    """Print where a label's milliseconds go, and what they cannot be less than."""
    print(
        f"{'':20}  label  decode   queue   infer  others  overlay's     floors:    its\n"
        f"{'ms; medians':20}    p50{'':32}     encode forward pass  sgemm"
    )
    limit = group.multiplications / (sgemm * 1e6)
    for function in group.pointers.values():
        label = function.of_requests(lambda each: each.label_ms)
        steps = "".join(f"{function.step(step):8.2f}" for step in STEPS[:3])
        encode = function.of_requests(lambda each: each.encode_ms)
        print(
            f"{marked(function, group):20}{label:7.1f}{steps}{function.rest_ms:8.2f}{encode:11.1f}"
            f"{function.forward_ms:13.1f}{limit:7.1f}"
        )
    print(f"{empty.name:20}{empty.of_requests(lambda each: each.label_ms):7.1f}")
    if not math.isnan(group.cached_ms):
        print(f"{'result cache has it':20}{group.cached_ms:7.1f}")


def marked(function: Measured, group: Group) -> str:
    """Return the function's name, with a star where it would be served."""
    return f"{function.name} *" if function is group.served else function.name
