"""The five foods of the sample photos, each drawn from above on a layer of its own; pizza has a file to itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np

from trainer.samples.canvas import (
    Array,
    Colour,
    Layer,
    Point,
    Stamps,
    jitter,
    mix,
    noise,
    pick,
    scattered,
    smoothstep,
    turned,
)
from trainer.samples.pizza import pizza

Food = Callable[[Layer, np.random.Generator], None]

_GLAZES: tuple[Colour, ...] = (
    (0.95, 0.55, 0.68),
    (0.33, 0.18, 0.11),
    (0.96, 0.93, 0.88),
    (0.62, 0.84, 0.72),
    (0.74, 0.62, 0.86),
    (0.80, 0.20, 0.30),
)
_SPRINKLES: tuple[Colour, ...] = (
    (0.93, 0.25, 0.35),
    (0.98, 0.80, 0.25),
    (0.30, 0.65, 0.90),
    (0.45, 0.78, 0.40),
    (0.99, 0.98, 0.95),
    (0.95, 0.55, 0.20),
    (0.60, 0.40, 0.80),
    (0.98, 0.55, 0.75),
)


def doughnut(layer: Layer, rng: np.random.Generator) -> None:
    """A ring of golden dough with icing of any colour, bare, sprinkled or drizzled, and a real hole."""
    rho, theta = layer.round_shape(rng, 0.015, 5)
    hole = rng.uniform(0.32, 0.42)
    middle, half = (1 + hole) / 2, (1 - hole) / 2
    across = (rho - middle) / half
    layer.alpha = layer.edge(rho - 1) * layer.edge(hole - rho)
    fine = noise(rng, layer.pixels, 45, 2)
    ring = np.sqrt(np.clip(1 - across**2, 0, 1))
    layer.height = np.float32(half * 0.85) * ring + 0.006 * fine
    baked = np.clip(ring * 0.75 + (noise(rng, layer.pixels, 8, 3) - 0.5) * 0.5, 0, 1)
    layer.paint(layer.alpha, mix((0.90, 0.70, 0.40), jitter(rng, (0.66, 0.38, 0.15), 0.05), baked), 0.08)
    wave = sum(
        (np.cos(k * theta + rng.uniform(0, 6.28)) * np.float32(rng.normal(0, 0.045)) for k in (3, 4, 5, 7, 9)),
        start=np.zeros_like(theta),
    )
    reach = np.float32(rng.uniform(0.70, 0.84)) + wave
    icing = layer.edge((np.abs(across) - reach) * np.float32(half))
    colour = jitter(rng, pick(rng, _GLAZES), 0.05)
    streaks = noise(rng, layer.pixels, 5, 2)
    layer.paint(icing, mix(colour, jitter(rng, colour, 0.08), streaks), 0.55)
    layer.height += 0.03 * smoothstep(0.0, 0.16, reach - np.abs(across)) + 0.015 * streaks * icing
    topping = rng.choice(["bare", "sprinkles", "sprinkles", "drizzle"])
    if topping == "sprinkles":
        _sprinkle(layer, rng, middle, half, icing)
    elif topping == "drizzle":
        _drizzle(layer, rng, colour, icing)


def fried_egg(layer: Layer, rng: np.random.Generator) -> None:
    """An uneven white with a browned lacy rim and one domed, shining yolk (now and then two), perhaps with herbs."""
    rho, _ = layer.round_shape(rng, 0.10, 14)
    layer.alpha = layer.edge(rho - 1)
    lumps, fine = noise(rng, layer.pixels, 6, 4), noise(rng, layer.pixels, 34, 3)
    folds = noise(rng, layer.pixels, 5, 2)
    layer.height = 0.07 * np.sqrt(np.clip(1 - rho**4, 0, 1)) + 0.055 * folds * smoothstep(1.0, 0.8, rho)
    white = mix((0.99, 0.98, 0.95), (0.90, 0.89, 0.83), smoothstep(0.3, 0.9, lumps) * 0.4)
    layer.paint(layer.alpha, white, 0.30)
    crisp = smoothstep(0.80, 1.02, rho + 0.16 * (lumps - 0.5) + 0.10 * (fine - 0.5)) * rng.uniform(0.45, 1.0)
    layer.paint(crisp * layer.alpha, mix((0.86, 0.62, 0.28), (0.52, 0.28, 0.10), fine), 0.2)
    bubbles = Stamps(layer.pixels)
    for x, y in scattered(rng, 26, 0.92, 0.05, 0.62):
        bubbles.disc(x, y, rng.uniform(0.012, 0.032), jitter(rng, (0.95, 0.90, 0.78), 0.06))
    layer.stick(bubbles, height=0.03, gloss=0.4, soft=0.014, within=smoothstep(1.0, 0.93, rho))
    radius = rng.uniform(0.33, 0.43)
    angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.16)
    if rng.random() < 0.1:
        radius, away = 0.29, 0.31
        _yolk(layer, rng, -away * float(np.cos(angle)), -away * float(np.sin(angle)), radius)
    _yolk(layer, rng, away * float(np.cos(angle)), away * float(np.sin(angle)), radius)
    if rng.random() < 0.55:
        specks = Stamps(layer.pixels)
        green = rng.random() < 0.5
        for x, y in scattered(rng, int(rng.integers(15, 60)), 0.8, 0.03):
            tone = jitter(rng, (0.30, 0.50, 0.16) if green else (0.16, 0.13, 0.11), 0.06)
            specks.blob(rng, x, y, rng.uniform(0.012, 0.03 if green else 0.018), tone, 0.4)
        layer.stick(specks, height=0.012, soft=0.008, within=layer.alpha)


def watermelon(layer: Layer, rng: np.random.Generator) -> None:
    """A slice, from a narrow wedge to a half round: striped rind, pale band, red flesh, seeds; some are bitten."""
    half_angle = np.radians(90.0 if rng.random() < 0.45 else rng.uniform(28, 60))
    turn, thick = rng.uniform(0, 2 * np.pi), rng.uniform(0.06, 0.13)
    arc = np.linspace(-half_angle, half_angle, 60) + turn
    xs, ys = np.append(np.cos(arc), 0.0), np.append(np.sin(arc), 0.0)
    half = max(float(np.ptp(xs)), float(np.ptp(ys))) / 2 + thick / 2
    middle = ((xs.max() + xs.min()) / 2, (ys.max() + ys.min()) / 2 + thick / 2)
    x = layer.x * np.float32(half) + np.float32(middle[0])
    y = layer.y * np.float32(half) + np.float32(middle[1])
    along = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    aside = np.abs(y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn)))
    distance = np.hypot(along, aside)
    straight = along * np.float32(np.sin(half_angle)) - aside * np.float32(np.cos(half_angle))
    depth = np.minimum(1 - distance, straight)
    for bite_x, bite_y, bite in _bites(rng, turn, half_angle):
        depth = np.minimum(depth, np.hypot(x - np.float32(bite_x), y - np.float32(bite_y)) - np.float32(bite))
    mask = layer.edge(-depth / np.float32(half))
    lumps, fine = noise(rng, layer.pixels, 6, 3), noise(rng, layer.pixels, 60, 2)
    flesh = jitter(rng, pick(rng, ((0.90, 0.22, 0.24), (0.93, 0.32, 0.30), (0.85, 0.16, 0.22))), 0.04)
    skin = jitter(rng, (0.13, 0.36, 0.14), 0.05)
    stripes = smoothstep(0.35, 0.65, noise(rng, layer.pixels, 14, 2))
    juicy = mix(flesh, jitter(rng, (0.98, 0.45, 0.42), 0.02), np.clip(lumps * 0.6 + (fine - 0.5) * 0.5, 0, 1))
    pale = mix(juicy, (0.97, 0.80, 0.72), smoothstep(0.76, 0.87, distance + 0.03 * (lumps - 0.5)))
    band = mix(pale, (0.88, 0.93, 0.72), smoothstep(0.84, 0.89, distance))
    green = mix(band, (0.55, 0.74, 0.38), smoothstep(0.90, 0.935, distance))
    face = mix(green, mix(skin, (0.42, 0.60, 0.28), stripes), smoothstep(0.935, 0.95, distance))
    layer.extrude(face, mask, thick / half, 0.68)
    layer.paint(mask, face, 0.28)
    layer.height = mask * (0.04 * smoothstep(0, 0.05, depth) + 0.007 * fine + 0.012 * lumps) / np.float32(half)
    _seeds(layer, rng, turn, half_angle, half, middle, smoothstep(0.05, 0.09, depth) * mask)


def cookie(layer: Layer, rng: np.random.Generator) -> None:
    """A cracked, lumpy biscuit of pale to brown dough with dark, milk or white chocolate, at times bitten."""
    rho, _ = layer.round_shape(rng, 0.03, 11)
    layer.alpha = layer.edge(rho - 1)
    lumps, fine = noise(rng, layer.pixels, 8, 4), noise(rng, layer.pixels, 55, 2)
    layer.height = 0.22 * np.sqrt(np.clip(1 - rho**3.0, 0, 1)) + (0.13 * lumps + 0.02 * fine) * smoothstep(
        1.0, 0.85, rho
    )
    pale, dark = _DOUGHS[int(rng.integers(len(_DOUGHS)))]
    baked = np.clip(smoothstep(0.55, 1.0, rho) * 0.75 + (0.55 - lumps) * 0.8 + (fine - 0.5) * 0.35, 0, 1)
    layer.paint(layer.alpha, mix(jitter(rng, pale, 0.04), jitter(rng, dark, 0.04), baked), 0.05)
    ridge = np.abs(noise(rng, layer.pixels, 4, 3) - 0.5)
    cracks = smoothstep(0.035, 0.008, ridge) * smoothstep(0.35, 0.6, noise(rng, layer.pixels, 5, 2))
    layer.height -= 0.07 * cracks
    layer.paint(cracks * 0.6 * layer.alpha, mix(dark, (0.2, 0.1, 0.05), 0.4))
    chips = Stamps(layer.pixels)
    kind = rng.choice(["chips", "chips", "chunks"])
    chocolate = pick(rng, ((0.24, 0.13, 0.08), (0.30, 0.17, 0.10), (0.42, 0.25, 0.14), (0.95, 0.90, 0.78)))
    if max(np.abs(np.subtract(chocolate, pale))) < 0.25:
        chocolate = (0.95, 0.90, 0.78)
    size = rng.uniform(0.075, 0.12)
    for x, y in scattered(rng, int(rng.integers(9, 22)), 0.84, size * 2.0):
        if kind == "chunks":
            corners = [(-1, -0.8), (0.2, -1), (1, -0.3), (0.8, 0.9), (-0.4, 1), (-1.1, 0.3)]
            shape = [(px * rng.uniform(0.7, 1.1), py * rng.uniform(0.7, 1.1)) for px, py in corners]
            chips.polygon(turned(shape, rng.uniform(0, 6.28), x, y, size), jitter(rng, chocolate, 0.04))
        else:
            chips.blob(rng, x, y, size * rng.uniform(0.7, 1.15), jitter(rng, chocolate, 0.04), 0.25)
    layer.stick(chips, height=0.10, gloss=0.5, soft=0.03, within=layer.alpha)
    if rng.random() < 0.2:
        angle = rng.uniform(0, 2 * np.pi)
        for step in (-0.26, 0.0, 0.26):
            x, y = float(np.cos(angle + step)), float(np.sin(angle + step))
            gap = np.hypot(layer.x - x, layer.y - y) - np.float32(rng.uniform(0.20, 0.26))
            layer.cut(layer.edge(gap))


FOODS: Mapping[str, Food] = MappingProxyType(
    {"cookie": cookie, "doughnut": doughnut, "fried_egg": fried_egg, "pizza": pizza, "watermelon": watermelon}
)
"""What draws each class, by label; sorted."""


_DOUGHS: tuple[tuple[Colour, Colour], ...] = (
    ((0.87, 0.67, 0.41), (0.62, 0.39, 0.18)),
    ((0.80, 0.57, 0.31), (0.52, 0.30, 0.13)),
    ((0.92, 0.77, 0.53), (0.72, 0.48, 0.24)),
)


def _yolk(layer: Layer, rng: np.random.Generator, x: float, y: float, radius: float) -> None:
    away = np.hypot(layer.x - np.float32(x), layer.y - np.float32(y)) / np.float32(radius)
    mask = layer.edge((away - 1) * np.float32(radius))
    layer.height += 0.05 * smoothstep(1.5, 1.0, away) * layer.alpha
    layer.height += np.float32(radius * 0.62) * np.sqrt(np.clip(1 - away**2.2, 0, 1))
    deep = jitter(rng, pick(rng, ((0.93, 0.50, 0.04), (0.96, 0.60, 0.06), (0.90, 0.42, 0.05))), 0.02)
    layer.paint(mask, mix((1.0, 0.76, 0.16), deep, smoothstep(0.35, 1.0, away)), 0.75)


def _sprinkle(layer: Layer, rng: np.random.Generator, middle: float, half: float, icing: Array) -> None:
    stamps = Stamps(layer.pixels)
    palette = [_SPRINKLES[i] for i in rng.permutation(len(_SPRINKLES))[: rng.integers(1, 4)]]
    length = rng.uniform(0.035, 0.06)
    for x, y in scattered(rng, int(rng.integers(45, 100)), middle + half * 0.68, 0.075, middle - half * 0.68):
        angle = rng.uniform(0, np.pi)
        ends = turned([(-length, 0), (length, 0)], angle, x, y)
        stamps.line(ends, 0.034, jitter(rng, pick(rng, palette), 0.04))
    layer.stick(stamps, height=0.03, gloss=0.35, soft=0.012, within=icing)


def _drizzle(layer: Layer, rng: np.random.Generator, below: Colour, icing: Array) -> None:
    stamps = Stamps(layer.pixels)
    colour = (0.97, 0.94, 0.88) if sum(below) < 1.7 else (0.32, 0.17, 0.10)
    angle, lines = rng.uniform(0, np.pi), int(rng.integers(9, 14))
    zigzag = [
        ((2 * i / lines - 1) * 1.05, (1.05 if i % 2 else -1.05) + rng.uniform(-0.1, 0.1)) for i in range(lines + 1)
    ]
    stamps.line(turned(zigzag, angle, 0, 0), 0.05, colour)
    layer.stick(stamps, height=0.03, gloss=0.5, soft=0.015, within=icing)


def _bites(rng: np.random.Generator, turn: float, half_angle: float) -> list[tuple[float, float, float]]:
    """Circles bitten out of a slice: at the tip of a wedge, along the straight side of a half round."""
    if rng.random() > 0.3:
        return []
    at = 0.0 if half_angle < 1.5 else rng.uniform(-0.5, 0.5)
    across = turn + np.pi / 2
    return [
        (
            float((at + step) * np.cos(across)),
            float((at + step) * np.sin(across)),
            rng.uniform(0.13, 0.17),
        )
        for step in (-0.13, 0.05, 0.2)
    ]


def _seeds(
    layer: Layer,
    rng: np.random.Generator,
    turn: float,
    half_angle: float,
    half: float,
    middle: Point,
    within: Array,
) -> None:
    stamps = Stamps(layer.pixels)
    drop: list[Point] = [
        (-1.0, 0.0),
        (-0.3, 0.42),
        (0.5, 0.55),
        (1.0, 0.25),
        (1.0, -0.25),
        (0.5, -0.55),
        (-0.3, -0.42),
    ]
    size = rng.uniform(0.032, 0.044)
    for radius in (0.34, 0.52, 0.68):
        count = int(radius * 2 * half_angle / rng.uniform(0.17, 0.26))
        for i in range(count):
            angle = turn + half_angle * 0.94 * (2 * (i + 0.5) / count - 1) + rng.normal(0, 0.05)
            away = radius + rng.normal(0, 0.035)
            x = (away * float(np.cos(angle)) - middle[0]) / half
            y = (away * float(np.sin(angle)) - middle[1]) / half
            tone = (0.95, 0.88, 0.76) if rng.random() < 0.12 else (0.13, 0.08, 0.06)
            stamps.polygon(turned(drop, angle + rng.normal(0, 0.25), x, y, size / half), jitter(rng, tone, 0.03))
    layer.stick(stamps, height=0.03, gloss=0.6, soft=0.014, within=(within > 0.5).astype(np.float32))
