"""The pizza of the sample photos: dough, sauce, cheese, toppings and cuts."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.samples.canvas import Layer, Point, Stamps, jitter, mix, noise, pick, scattered, smoothstep, turned

_GOLD, _TOAST = (0.88, 0.66, 0.36), (0.56, 0.31, 0.12)


def pizza(layer: Layer, rng: np.random.Generator) -> None:
    """A whole pizza: puffy rim, sauce, melted cheese, two or three toppings, often cut, at times a slice short."""
    rho, _ = layer.round_shape(rng, 0.02, 8)
    layer.alpha = layer.edge(rho - 1)
    lumps, fine = noise(rng, layer.pixels, 7, 4), noise(rng, layer.pixels, 40, 2)
    rim = rng.uniform(0.80, 0.86)
    crust = np.sqrt(np.clip(1 - ((rho - (1 + rim) / 2) / ((1.02 - rim) / 2 * 1.15)) ** 2, 0, 1))
    layer.height = 0.10 * crust * (0.75 + 0.5 * lumps) + 0.012 * fine
    browning = np.clip(smoothstep(0.45, 0.95, lumps) * 0.9 + (crust - 0.6) * 0.35 + (fine - 0.5) * 0.25, 0, 1)
    layer.paint(layer.alpha, mix(jitter(rng, _GOLD, 0.05), jitter(rng, _TOAST, 0.05), browning), 0.05)
    sauce = layer.edge(rho - rim - 0.02 - 0.03 * (lumps - 0.5))
    layer.paint(sauce, mix((0.74, 0.20, 0.08), (0.55, 0.10, 0.05), fine), 0.15)
    melt = noise(rng, layer.pixels, 7, 4)
    bare = rng.uniform(0.18, 0.30) if rng.random() < 0.7 else rng.uniform(0.42, 0.55)
    cheese = smoothstep(bare, bare + 0.14, melt + 2.0 * np.minimum(rim - 0.07 - rho, 0)) * sauce
    tone = pick(rng, ((0.98, 0.84, 0.46), (0.97, 0.90, 0.70), (0.96, 0.78, 0.38)))
    golden = mix(jitter(rng, tone, 0.03), (0.95, 0.68, 0.28), smoothstep(0.45, 0.95, melt))
    spots = smoothstep(0.66, 0.86, noise(rng, layer.pixels, 9, 3)) * rng.uniform(0.5, 1.0)
    layer.paint(cheese, mix(golden, (0.62, 0.31, 0.10), spots), 0.22)
    layer.height += cheese * (0.02 + 0.045 * melt)
    kinds = rng.permutation(len(_TOPPINGS))[: rng.integers(2, 4)]
    for kind in kinds.tolist():
        _TOPPINGS[kind](layer, rng, rim - 0.14)
    if rng.random() < 0.65:
        _cut_into_slices(layer, rng)


def _cut_into_slices(layer: Layer, rng: np.random.Generator) -> None:
    """Straight cuts through the middle, and at times one slice taken away."""
    slices = int(rng.choice([6, 8]))
    start = rng.uniform(0, 2 * np.pi)
    for i in range(slices // 2):
        angle = start + 2 * np.pi * i / slices
        away = np.abs(layer.x * np.float32(np.sin(angle)) - layer.y * np.float32(np.cos(angle)))
        layer.height -= 0.04 * smoothstep(0.022, 0.006, away)
        layer.paint(0.75 * smoothstep(0.016, 0.006, away) * layer.alpha, (0.36, 0.17, 0.07))
    if rng.random() < 0.35:
        first, second = start, start + 2 * np.pi / slices
        inside = np.minimum(
            layer.y * np.float32(np.cos(first)) - layer.x * np.float32(np.sin(first)),
            layer.x * np.float32(np.sin(second)) - layer.y * np.float32(np.cos(second)),
        )
        layer.cut(layer.edge(-inside))


def _pepperoni(layer: Layer, rng: np.random.Generator, reach: float) -> None:
    stamps, fat = Stamps(layer.pixels), Stamps(layer.pixels)
    size = rng.uniform(0.11, 0.15)
    for x, y in scattered(rng, int(rng.integers(9, 18)), reach, size * 1.9):
        tone = jitter(rng, (0.68, 0.17, 0.11), 0.04)
        stamps.disc(x, y, size, (tone[0] * 0.72, tone[1] * 0.6, tone[2] * 0.6))
        stamps.disc(x, y, size * 0.86, tone)
        for dx, dy in scattered(rng, 5, size * 0.65, size * 0.25):
            fat.disc(x + dx, y + dy, rng.uniform(0.008, 0.016), jitter(rng, (0.88, 0.50, 0.36), 0.05))
    layer.stick(stamps, height=0.035, gloss=0.3, soft=0.015)
    layer.stick(fat, height=0.0, gloss=0.3)


def _olives(layer: Layer, rng: np.random.Generator, reach: float) -> None:
    stamps = Stamps(layer.pixels)
    tone = pick(rng, ((0.17, 0.13, 0.16), (0.42, 0.44, 0.16)))
    for x, y in scattered(rng, int(rng.integers(10, 20)), reach, 0.14):
        stamps.disc(x, y, 0.058, jitter(rng, tone, 0.03))
        stamps.disc(x, y, 0.026, (0.92, 0.74, 0.38))
    layer.stick(stamps, height=0.03, gloss=0.6, soft=0.015)


def _basil(layer: Layer, rng: np.random.Generator, reach: float) -> None:
    stamps, veins = Stamps(layer.pixels), Stamps(layer.pixels)
    leaf: list[Point] = [
        (-1, 0),
        (-0.6, 0.36),
        (0, 0.48),
        (0.6, 0.3),
        (1, 0),
        (0.6, -0.3),
        (0, -0.48),
        (-0.6, -0.36),
    ]
    for x, y in scattered(rng, int(rng.integers(5, 11)), reach, 0.26):
        angle, size = rng.uniform(0, 6.28), rng.uniform(0.12, 0.17)
        stamps.polygon(turned(leaf, angle, x, y, size), jitter(rng, (0.22, 0.46, 0.14), 0.06))
        veins.line(turned([(-0.9, 0), (0.9, 0)], angle, x, y, size), 0.012, (0.45, 0.64, 0.30))
    layer.stick(stamps, height=0.05, gloss=0.2, soft=0.025)
    layer.stick(veins, height=-0.01, gloss=0.1)


def _mushrooms(layer: Layer, rng: np.random.Generator, reach: float) -> None:
    stamps = Stamps(layer.pixels)
    cap = [(float(np.cos(a)), float(-np.sin(a))) for a in np.linspace(0, np.pi, 14)]
    shape: list[Point] = [
        *cap,
        (-0.95, 0.22),
        (-0.32, 0.18),
        (-0.36, 0.85),
        (0.36, 0.85),
        (0.32, 0.18),
        (0.95, 0.22),
    ]
    for x, y in scattered(rng, int(rng.integers(7, 12)), reach, 0.25):
        angle, size = rng.uniform(0, 6.28), rng.uniform(0.09, 0.12)
        stamps.polygon(turned(shape, angle, x, y, size * 1.08), (0.58, 0.42, 0.28))
        stamps.polygon(turned(shape, angle, x, y, size * 0.9), jitter(rng, (0.90, 0.82, 0.68), 0.04))
    layer.stick(stamps, height=0.03, gloss=0.1, soft=0.015)


def _peppers(layer: Layer, rng: np.random.Generator, reach: float) -> None:
    stamps = Stamps(layer.pixels)
    tone = pick(rng, ((0.30, 0.56, 0.16), (0.93, 0.72, 0.15), (0.80, 0.16, 0.10), (0.60, 0.25, 0.45)))
    for x, y in scattered(rng, int(rng.integers(8, 16)), reach, 0.16):
        start, size = rng.uniform(0, 6.28), rng.uniform(0.09, 0.14)
        arc = [(float(size * np.cos(start + t)), float(size * np.sin(start + t))) for t in np.linspace(0, 2.2, 7)]
        stamps.line([(x + px, y + py) for px, py in arc], 0.036, jitter(rng, tone, 0.05))
    layer.stick(stamps, height=0.03, gloss=0.4, soft=0.014)


def _tomatoes(layer: Layer, rng: np.random.Generator, reach: float) -> None:
    stamps = Stamps(layer.pixels)
    for x, y in scattered(rng, int(rng.integers(6, 11)), reach, 0.27):
        size, turn = rng.uniform(0.10, 0.13), rng.uniform(0, 6.28)
        stamps.disc(x, y, size, jitter(rng, (0.80, 0.18, 0.10), 0.04))
        for k in range(5):
            px, py = turned([(0.52, 0)], turn + k * 1.257, x, y, size)[0]
            stamps.disc(px, py, size * 0.24, (0.93, 0.50, 0.26))
    layer.stick(stamps, height=0.03, gloss=0.5, soft=0.015)


_TOPPINGS: tuple[Callable[[Layer, np.random.Generator, float], None], ...] = (
    _pepperoni,
    _olives,
    _basil,
    _mushrooms,
    _peppers,
    _tomatoes,
)
