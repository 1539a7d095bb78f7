"""What lies about on the tables of the sample photos and is none of the classes: plates, cutlery, cups, leaves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.samples.canvas import Colour, Layer, Point, Stamps, jitter, mix, noise, pick, scattered, smoothstep, turned
from trainer.samples.table import CLOTH, PAINT, WOODS

_PLATES: tuple[Colour, ...] = (
    (0.96, 0.95, 0.93),
    (0.94, 0.90, 0.80),
    (0.62, 0.72, 0.80),
    (0.24, 0.25, 0.28),
    (0.75, 0.46, 0.32),
    (0.72, 0.82, 0.70),
    (0.93, 0.72, 0.72),
    (0.94, 0.80, 0.45),
    (0.72, 0.54, 0.34),
)


def plate(layer: Layer, rng: np.random.Generator) -> None:
    """A plate with a raised rim, at times with a coloured band, or a round wooden board."""
    layer.alpha = layer.edge(np.hypot(layer.x, layer.y) - 1)
    rho = np.hypot(layer.x, layer.y)
    colour = jitter(rng, pick(rng, _PLATES), 0.03)
    if rng.random() < 0.2:
        light, dark = WOODS[int(rng.integers(len(WOODS)))]
        grain = noise(rng, layer.pixels, (50, 4), 3)
        layer.paint(layer.alpha, mix(light, dark, grain), 0.05)
        layer.height = 0.05 * smoothstep(1.0, 0.95, rho)
        return
    layer.paint(layer.alpha, mix(colour, jitter(rng, colour, 0.03), noise(rng, layer.pixels, 3, 1)), 0.3)
    well = rng.uniform(0.60, 0.72)
    layer.height = 0.10 * smoothstep(well - 0.08, well + 0.08, rho) + 0.03 * smoothstep(0.93, 0.98, rho)
    layer.height -= 0.05 * smoothstep(0.98, 1.01, rho)
    if rng.random() < 0.3:
        band = pick(rng, CLOTH)
        at, wide = rng.uniform(0.86, 0.95), rng.uniform(0.008, 0.04)
        layer.paint(layer.edge(np.abs(rho - at) - wide) * layer.alpha, band)


def leaf(layer: Layer, rng: np.random.Generator) -> None:
    """A mint, basil or bay leaf."""
    stamps, veins = Stamps(layer.pixels), Stamps(layer.pixels)
    turn, wide = rng.uniform(0, 2 * np.pi), rng.uniform(0.34, 0.6)
    along = np.linspace(0, np.pi, 13)
    upper = [(float(-np.cos(t)), float(wide * np.sin(t) ** 1.5)) for t in along]
    outline = [*upper, *[(px, -py) for px, py in reversed(upper)]]
    colour = jitter(rng, pick(rng, ((0.24, 0.46, 0.17), (0.40, 0.56, 0.24), (0.62, 0.38, 0.16))), 0.06)
    stamps.polygon(turned(outline, turn, 0, 0, 0.95), colour)
    pale = jitter(rng, (colour[0] + 0.2, colour[1] + 0.18, colour[2] + 0.12), 0.02)
    veins.line(turned([(-0.9, 0), (0.95, 0)], turn, 0, 0), 0.035, pale)
    for t in (-0.5, -0.2, 0.1, 0.4):
        for side in (-1, 1):
            veins.line(turned([(t, 0), (t + 0.25, side * wide * 0.62)], turn, 0, 0), 0.02, pale)
    _only(layer, stamps, height=0.10, soft=0.10, gloss=0.25)
    layer.stick(veins, height=-0.015, gloss=0.1, soft=0.02, within=layer.alpha)


def cutlery(layer: Layer, rng: np.random.Generator) -> None:
    """A fork, a knife or a spoon, of steel, brass or wood."""
    stamps = Stamps(layer.pixels)
    turn = rng.uniform(0, 2 * np.pi)
    metal = jitter(rng, pick(rng, ((0.70, 0.71, 0.73), (0.78, 0.64, 0.36), (0.66, 0.47, 0.28))), 0.04)

    def bar(start: Point, end: Point, width: float) -> None:
        stamps.line(turned([start, end], turn, 0, 0), width, metal)

    kind = int(rng.integers(3))
    bar((-0.94, 0), (0.3, 0), 0.055)
    bar((-0.93, 0), (-0.45, 0), 0.085)
    if kind == 0:
        bar((0.34, -0.075), (0.34, 0.075), 0.09)
        for y in (-0.09, -0.03, 0.03, 0.09):
            bar((0.4, y), (0.92, y), 0.03)
    elif kind == 1:
        stamps.polygon(turned([(0.1, -0.04), (0.7, -0.08), (0.93, 0.0), (0.9, 0.05), (0.1, 0.05)], turn, 0, 0), metal)
    else:
        bowl = [(0.62 + 0.33 * float(np.cos(t)), 0.17 * float(np.sin(t))) for t in np.linspace(0, 6.28, 24)]
        stamps.polygon(turned(bowl, turn, 0, 0), metal)
    _only(layer, stamps, height=0.06, soft=0.02, gloss=0.7)


def napkin(layer: Layer, rng: np.random.Generator) -> None:
    """A folded cloth, plain, striped or checked."""
    stamps = Stamps(layer.pixels)
    turn, tall = rng.uniform(0, 2 * np.pi), rng.uniform(0.4, 0.7)
    stamps.polygon(turned([(-0.72, -tall), (0.72, -tall), (0.72, tall), (-0.72, tall)], turn, 0, 0, 0.95), (1, 1, 1))
    _only(layer, stamps, height=0.05, soft=0.03, gloss=0.0)
    along = layer.x * np.float32(np.cos(turn)) + layer.y * np.float32(np.sin(turn))
    across = layer.y * np.float32(np.cos(turn)) - layer.x * np.float32(np.sin(turn))
    ground, ink = jitter(rng, pick(rng, PAINT), 0.04), pick(rng, CLOTH)
    bands = smoothstep(0.2, 0.5, np.sin(along * np.float32(rng.uniform(18, 34))))
    kind = int(rng.integers(3))
    if kind == 2:
        bands = (bands + smoothstep(0.2, 0.5, np.sin(across * 26))) / 2
    layer.paint(layer.alpha, mix(ground, ink, bands * (0.0 if kind == 0 else 0.75)))
    layer.height += 0.06 * noise(rng, layer.pixels, 3, 2) + 0.03 * smoothstep(-0.02, 0.02, across)


def cup(layer: Layer, rng: np.random.Generator) -> None:
    """A cup of coffee or tea from above, with its handle."""
    stamps = Stamps(layer.pixels)
    turn, colour = rng.uniform(0, 2 * np.pi), jitter(rng, pick(rng, PAINT), 0.03)
    stamps.line(turned([(0.6, 0), (0.9, 0)], turn, 0, 0), 0.16, colour)
    stamps.disc(0, 0, 0.78, colour)
    _only(layer, stamps, height=0.25, soft=0.05, gloss=0.5)
    rho = np.hypot(layer.x, layer.y)
    drink = jitter(rng, pick(rng, ((0.25, 0.13, 0.07), (0.60, 0.36, 0.14), (0.72, 0.54, 0.38))), 0.04)
    inside = layer.edge(rho - 0.66)
    layer.paint(inside, mix(drink, (0.78, 0.60, 0.42), smoothstep(0.5, 0.66, rho) * 0.5), 0.25)
    layer.height = layer.height * (1 - inside) + inside * 0.12 * smoothstep(0.60, 0.66, rho)


def crumbs(layer: Layer, rng: np.random.Generator) -> None:
    """A scattering of crumbs, seeds or peppercorns."""
    stamps = Stamps(layer.pixels)
    tone = pick(
        rng, ((0.80, 0.60, 0.34), (0.30, 0.18, 0.11), (0.93, 0.88, 0.78), (0.62, 0.16, 0.12), (0.36, 0.48, 0.2))
    )
    for x, y in scattered(rng, int(rng.integers(10, 34)), 0.9, 0.08):
        stamps.blob(rng, x, y, rng.uniform(0.018, 0.07), jitter(rng, tone, 0.08), 0.4)
    _only(layer, stamps, height=0.06, soft=0.02, gloss=0.1)


def berries(layer: Layer, rng: np.random.Generator) -> None:
    """One to five shining balls: berries, small tomatoes, grapes, olives or sweets."""
    colour = pick(
        rng,
        (
            (0.22, 0.26, 0.46),
            (0.78, 0.14, 0.13),
            (0.52, 0.64, 0.24),
            (0.90, 0.58, 0.12),
            (0.36, 0.12, 0.20),
            (0.94, 0.90, 0.84),
            (0.93, 0.50, 0.62),
            (0.28, 0.20, 0.16),
        ),
    )
    count = int(rng.integers(1, 6))
    size = 0.85 if count == 1 else 0.34
    for x, y in [(0.0, 0.0)] if count == 1 else scattered(rng, count, 0.62, size * 1.9):
        away = np.hypot(layer.x - np.float32(x), layer.y - np.float32(y)) / np.float32(size)
        mask = layer.edge((away - 1) * np.float32(size))
        tone = jitter(rng, colour, 0.05)
        layer.paint(mask, mix(tone, (tone[0] * 0.6, tone[1] * 0.6, tone[2] * 0.6), smoothstep(0.5, 1.0, away)), 0.6)
        layer.height += np.float32(size * 0.8) * np.sqrt(np.clip(1 - away**2, 0, 1))
        layer.alpha = np.maximum(layer.alpha, mask)


def cubes(layer: Layer, rng: np.random.Generator) -> None:
    """A few lumps of sugar, cheese, fudge or fruit."""
    stamps = Stamps(layer.pixels)
    colour = pick(
        rng, ((0.96, 0.94, 0.90), (0.95, 0.78, 0.36), (0.50, 0.30, 0.18), (0.90, 0.36, 0.32), (0.46, 0.66, 0.34))
    )
    for x, y in scattered(rng, int(rng.integers(1, 5)), 0.55, 0.62):
        corners: list[Point] = [(-1, -1), (1, -1), (1, 1), (-1, 1)]
        stamps.polygon(turned(corners, rng.uniform(0, 1.57), x, y, 0.24), jitter(rng, colour, 0.05))
    _only(layer, stamps, height=0.30, soft=0.05, gloss=0.2)
    layer.height += 0.05 * noise(rng, layer.pixels, 12, 2)


THINGS: tuple[tuple[Callable[[Layer, np.random.Generator], None], float, float], ...] = (
    (leaf, 0.10, 0.22),
    (leaf, 0.10, 0.22),
    (cutlery, 0.45, 0.65),
    (napkin, 0.34, 0.55),
    (cup, 0.24, 0.38),
    (crumbs, 0.14, 0.30),
    (berries, 0.08, 0.20),
    (cubes, 0.11, 0.22),
)
"""Small things to lay about, each with the least and the greatest half extent, in halves of the photo's side."""


def _only(layer: Layer, stamps: Stamps, *, height: float, soft: float, gloss: float) -> None:
    """Make the layer consist of these stamps."""
    layer.alpha = stamps.mask()
    layer.stick(stamps, height=height, soft=soft, gloss=gloss)
