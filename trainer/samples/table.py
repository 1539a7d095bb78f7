"""The table tops of the sample photos: wood, marble, cloth, slate and paint, in colours that the foods have too."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trainer.samples.canvas import Array, Colour, jitter, lit, mix, noise, pick, smoothstep

Table = Callable[[np.random.Generator, int], Array]

# The foods' own colours are among these on purpose, so that no colour of a background belongs to one class.
CLOTH: tuple[Colour, ...] = (
    (0.76, 0.16, 0.16),
    (0.92, 0.45, 0.50),
    (0.20, 0.42, 0.24),
    (0.22, 0.38, 0.62),
    (0.90, 0.70, 0.24),
    (0.66, 0.43, 0.22),
    (0.34, 0.22, 0.16),
    (0.45, 0.62, 0.66),
    (0.86, 0.52, 0.22),
    (0.55, 0.45, 0.65),
)
PAINT: tuple[Colour, ...] = (
    *CLOTH,
    (0.93, 0.91, 0.87),
    (0.85, 0.76, 0.62),
    (0.78, 0.60, 0.38),
    (0.96, 0.86, 0.60),
    (0.35, 0.38, 0.42),
    (0.72, 0.82, 0.74),
    (0.95, 0.78, 0.74),
    (0.17, 0.18, 0.20),
)
WOODS: tuple[tuple[Colour, Colour], ...] = (
    ((0.80, 0.62, 0.40), (0.58, 0.39, 0.21)),
    ((0.62, 0.42, 0.25), (0.40, 0.24, 0.13)),
    ((0.42, 0.28, 0.19), (0.23, 0.14, 0.09)),
    ((0.90, 0.87, 0.82), (0.72, 0.67, 0.60)),
    ((0.66, 0.34, 0.22), (0.42, 0.19, 0.12)),
    ((0.60, 0.58, 0.55), (0.40, 0.38, 0.36)),
    ((0.88, 0.74, 0.52), (0.70, 0.53, 0.33)),
    ((0.50, 0.60, 0.52), (0.33, 0.42, 0.36)),
)
_MARBLES: tuple[tuple[Colour, Colour], ...] = (
    ((0.94, 0.93, 0.91), (0.55, 0.54, 0.55)),
    ((0.15, 0.15, 0.17), (0.80, 0.76, 0.68)),
    ((0.28, 0.40, 0.33), (0.78, 0.84, 0.76)),
    ((0.92, 0.80, 0.74), (0.70, 0.45, 0.38)),
    ((0.90, 0.84, 0.70), (0.66, 0.48, 0.28)),
    ((0.52, 0.24, 0.20), (0.88, 0.72, 0.62)),
)


def table_top(rng: np.random.Generator, pixels: int) -> Array:
    """A surface of random kind and colour, [3, pixels, pixels], its pattern along the sides."""
    return _TABLES[int(rng.integers(len(_TABLES)))](rng, pixels)


def _planks(rng: np.random.Generator, pixels: int) -> Array:
    light, dark = WOODS[int(rng.integers(len(WOODS)))]
    light, dark = jitter(rng, light, 0.04), jitter(rng, dark, 0.04)
    axis = np.linspace(0, 1, pixels, dtype=np.float32)
    rows = axis[:, None] + np.float32(0.03) * (noise(rng, pixels, (3, 2), 2) - 0.5)
    for _ in range(int(rng.integers(0, 4))):
        down, across = rng.random(2)
        squeezed = np.exp(-((rows - down) ** 2) / 0.0012 - ((axis[None, :] - across) ** 2) / 0.006)
        rows = rows + np.float32(0.03) * squeezed * np.sign(rows - np.float32(down))
    wide = rng.uniform(0.12, 0.30)
    board = axis[:, None] / np.float32(wide) + np.float32(rng.random())
    number = board.astype(np.int32)
    rings = np.repeat(rng.random(400), 4).astype(np.float32)
    rings = np.convolve(rings, np.ones(7, np.float32) / 7, mode="same").astype(np.float32)
    grain = rings[((rows * rng.uniform(380, 700)).astype(np.int32) + number * 131) % len(rings)]
    grain = np.clip((grain - 0.5) * 1.7 + 0.5, 0, 1) * 0.6 + noise(rng, pixels, (90, 5), 2) * 0.4
    tones = rng.normal(1, 0.07, 20).astype(np.float32)[number % 20]
    gap = np.abs(board - np.round(board)) * np.float32(wide)
    return lit(mix(light, dark, grain), tones * (1 - 0.6 * smoothstep(0.0045, 0.0015, gap)))


def _marble(rng: np.random.Generator, pixels: int) -> Array:
    ground, vein = _MARBLES[int(rng.integers(len(_MARBLES)))]
    clouds = noise(rng, pixels, 3, 5)
    thin = 1 - np.abs(2 * noise(rng, pixels, (2.4, 4), 5) - 1)
    broad = 1 - np.abs(2 * clouds - 1)
    veins = np.clip(thin**14 * 0.9 + broad**6 * 0.35 * noise(rng, pixels, 3, 1), 0, 1)
    return mix(mix(jitter(rng, ground, 0.03), vein, 0.22 * clouds), vein, veins * rng.uniform(0.5, 0.9))


def _cloth(rng: np.random.Generator, pixels: int) -> Array:
    """Gingham, stripes or plain linen, with the weave and soft folds."""
    ink, ground = jitter(rng, pick(rng, CLOTH), 0.04), jitter(rng, (0.95, 0.93, 0.89), 0.03)
    axis = np.linspace(0, 1, pixels, dtype=np.float32)
    sway = np.float32(0.012) * (noise(rng, pixels, 2, 2) - 0.5)
    checks = rng.uniform(7, 16)
    down, across = ((side + sway) * np.float32(2 * np.pi * checks) for side in (axis[:, None], axis[None, :]))
    kind = rng.choice(["gingham", "gingham", "stripes", "plain"])
    if kind == "gingham":
        share: Array = (smoothstep(-0.06, 0.06, np.sin(down)) + smoothstep(-0.06, 0.06, np.sin(across))) / 2
    elif kind == "stripes":
        share = smoothstep(0.25, 0.4, np.sin(down))
    else:
        share = np.full((pixels, pixels), rng.uniform(0.1, 1), np.float32)
    threads = np.sin(axis * np.float32(pixels * 1.1))
    weave = 1 + 0.035 * (threads[:, None] + threads[None, :]) + 0.06 * (noise(rng, pixels, 150, 1) - 0.5)
    folds = 1 + 0.22 * (noise(rng, pixels, (2.2, 3.5), 2) - 0.5)
    return lit(mix(ground, ink, share), weave * folds)


def _slate(rng: np.random.Generator, pixels: int) -> Array:
    ground = jitter(
        rng, pick(rng, ((0.24, 0.26, 0.29), (0.36, 0.36, 0.37), (0.42, 0.36, 0.32), (0.55, 0.55, 0.53))), 0.03
    )
    flakes = noise(rng, pixels, (6, 9), 5)
    relief = np.clip((flakes[1:, 1:] - flakes[:-1, :-1]) * (pixels / 14), -0.5, 0.5)
    relief = np.pad(relief, ((0, 1), (0, 1)), mode="edge")
    speckle = rng.random((pixels, pixels), np.float32) - 0.5
    bright = 1 + 0.5 * relief + 0.10 * speckle + 0.25 * (flakes - 0.5)
    return lit(ground, bright)


def _painted(rng: np.random.Generator, pixels: int) -> Array:
    """A plain or speckled table top."""
    ground = jitter(rng, pick(rng, PAINT), 0.05)
    colour = mix(ground, jitter(rng, ground, 0.10), noise(rng, pixels, 3, 3))
    if rng.random() < 0.4:
        chips = smoothstep(0.72, 0.78, noise(rng, pixels, rng.uniform(30, 70), 2))
        colour = mix(colour, pick(rng, PAINT), chips * rng.uniform(0.3, 0.8))
    return lit(colour, 1 + 0.05 * (noise(rng, pixels, 180, 1) - 0.5))


_TABLES: tuple[Table, ...] = (_planks, _planks, _marble, _cloth, _cloth, _slate, _painted)
