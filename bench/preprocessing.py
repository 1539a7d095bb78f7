"""How fast photos become arrays: drafted against plain decoding of large JPEGs, and small photos in 1 and 2 threads.

    python bench/preprocessing.py [--data DIR] [--runs 9] [--write PAGE]

Every figure is the median over the runs. The drafted time includes everything from bytes to array. What remains of it
is mostly entropy decoding, which grows with the file, so the table has several amounts of sensor noise.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

from bench import written  # noqa: E402
from classifier.photo import heatmap, preprocessing  # noqa: E402
from classifier.photo.profiles import believed, conversion, lcms_conversion  # noqa: E402
from tests.support.colour_profiles import ADOBE_RGB, display  # noqa: E402

LARGE = (4000, 3000)
SIZES = (224, 299)
NOISE = (0, 3, 6)
SMALL_PHOTOS = 200

Result = TypeVar("Result")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = os.environ.get("POINTER_DATA", str(ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default, help="folder with food-101/images (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    photos = sorted((options.data / "food-101" / "images").glob("*/*.jpg"))
    source = "an upscaled Food-101 photo" if photos else "a rendered scene (no Food-101 folder found)"
    scene = upscaled(photos[len(photos) // 2]) if photos else rendered_scene(LARGE)
    print(f"12-megapixel JPEG, quality 90, from {source}")
    print("noise      file  input     plain   drafted  ratio  mean difference")
    for noise in NOISE:
        data = jpeg(with_noise(scene, noise))
        for side in SIZES:
            compare(data, side, noise, options.runs)
    files = [path.read_bytes() for path in photos[:: max(1, len(photos) // SMALL_PHOTOS)]]
    files = files or [jpeg(rendered_scene((512, 384), seed)) for seed in range(SMALL_PHOTOS)]
    print("\nsmall photos (longest side 512)  input  1 thread  2 threads")
    for side in SIZES:
        rates = [images_per_second(files, side, threads, options.runs) for threads in (1, 2)]
        print(f"{len(files):>31}  {side:>5}  {rates[0]:>6.0f}/s  {rates[1]:>7.0f}/s")
    profile_times(options.runs)
    overlay_times(options.runs)


def compare(data: bytes, side: int, noise: int, runs: int) -> None:
    """Print one line: plain decode-and-resize against `preprocessing.decode` and `array`."""
    plain_times, drafted_times = [], []
    for _ in range(runs):  # in turns and by the thread's own clock: another program's load is not measured
        plain_ms, plain = timed(lambda: plain_array(data, side), 1, time.thread_time)
        drafted_ms, drafted = timed(lambda: drafted_array(data, side), 1, time.thread_time)
        plain_times.append(plain_ms)
        drafted_times.append(drafted_ms)
    plain_ms, drafted_ms = median(plain_times), median(drafted_times)
    difference = np.abs(plain.astype(int) - drafted).mean()
    print(
        f"{noise:>5}  {len(data) / 1e6:>5.2f} MB  {side:>5}  {plain_ms:>5.1f} ms  {drafted_ms:>5.1f} ms"
        f"  {drafted_ms / plain_ms:>5.3f}  {difference:>15.2f}"
    )


def plain_array(data: bytes, side: int) -> NDArray[np.uint8]:
    """Return what a classic script feeds to its model."""
    image = Image.open(BytesIO(data)).convert("RGB")
    return np.asarray(image.resize((side, side), Image.Resampling.BILINEAR))


def drafted_array(data: bytes, side: int) -> NDArray[np.uint8]:
    """Return what Pointer feeds to its model."""
    return preprocessing.decode(data, width=side, height=side).array(side, side)


def images_per_second(files: list[bytes], side: int, threads: int, runs: int) -> float:
    """Return how many small photos become arrays in a second."""
    with ThreadPoolExecutor(threads) as pool:
        milliseconds, _ = timed(lambda: list(pool.map(partial(drafted_array, side=side), files)), max(3, runs // 3))
    return len(files) / milliseconds * 1000


def profile_times(runs: int) -> None:
    """Print what an embedded profile costs a photo of 512x384: the first of its kind, and then the conversion."""
    bare = rendered_scene((512, 384))
    file = BytesIO()
    bare.save(file, "JPEG", quality=90, icc_profile=display(*ADOBE_RGB))
    coloured = file.getvalue()
    started = time.perf_counter()
    drafted_array(coloured, 224)
    first = (time.perf_counter() - started) * 1000
    print(f"\nphoto of 512x384 with Adobe RGB's profile: the first {first:.1f} ms", end="")
    profile = display(*ADOBE_RGB)
    ours, lcms = conversion(profile, "RGB"), lcms_conversion(believed(profile, b"RGB ") or b"", b"RGB ")
    assert ours is not None and lcms is not None, "the profile is believed"
    for side in SIZES:  # alone: the rest of a photo's time varies by more
        image = bare.resize((side, side))
        by_lcms, expected = timed(partial(lcms, image), runs * 20, time.thread_time)
        milliseconds, converted = timed(partial(ours, image), runs * 20, time.thread_time)
        same = "the same pixels" if converted == expected else "other pixels"
        print(f", the conversion then at {side} {milliseconds:.2f} ms (lcms {by_lcms:.2f} ms, {same})", end="")
    print()


def overlay_times(runs: int) -> None:
    """Print how long an overlay of 512x384 takes to compose and to encode."""
    photo = rendered_scene((512, 384))
    heat = np.random.default_rng(0).random((10, 10), dtype=np.float32)
    compose_ms, picture = timed(lambda: heatmap.overlay(photo, heat), runs * 5)
    print(f"\noverlay of 512x384: compose {compose_ms:.1f} ms", end="")
    for media_type in heatmap.ENCODERS:
        encode_ms, content = timed(partial(heatmap.encode, picture, media_type), runs * 5)
        print(f", {media_type} {encode_ms:.1f} ms ({len(content) / 1000:.0f} kB)", end="")
    print()


def timed(
    call: Callable[[], Result], runs: int, clock: Callable[[], float] = time.perf_counter
) -> tuple[float, Result]:
    """Return the median milliseconds of `runs` calls, and the last result."""
    times = []
    for _ in range(runs):
        started = clock()
        result = call()
        times.append(clock() - started)
    return median(times) * 1000, result


def upscaled(path: Path) -> Image.Image:
    """Return a real photo at 12 megapixels."""
    return Image.open(path).convert("RGB").resize(LARGE, Image.Resampling.LANCZOS)


def rendered_scene(size: tuple[int, int], seed: int = 0) -> Image.Image:
    """Render something with a photo's statistics: detail at every scale, some colour, hard edges."""
    rng = np.random.default_rng(seed)

    def layer(cells: int, strength: float) -> NDArray[np.float32]:
        coarse = Image.fromarray(rng.normal(0, strength, (cells, cells)).astype(np.float32))
        return np.asarray(coarse.resize(size, Image.Resampling.BICUBIC))

    light = 128 + layer(3, 40) + layer(9, 24) + layer(27, 14) + layer(81, 9) + layer(243, 6) + layer(729, 4)
    bands = [Image.fromarray(np.clip(light + layer(4, 25), 0, 255).astype(np.uint8)) for _ in range(3)]
    scene = Image.merge("RGB", bands)
    draw = ImageDraw.Draw(scene)
    for _ in range(25):
        x, y, radius = rng.random(3) * (*size, min(size) / 8)
        colour = tuple(int(part) for part in rng.integers(60, 200) + rng.integers(-30, 30, 3))
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
    return scene


def with_noise(image: Image.Image, sigma: float) -> Image.Image:
    """Add a sensor's noise: independent at each pixel and in each colour, in grey levels."""
    if not sigma:
        return image
    noise = np.random.default_rng(1).standard_normal((image.height, image.width, 3), np.float32)
    return Image.fromarray(np.clip(np.asarray(image) + sigma * noise, 0, 255).astype(np.uint8))


def jpeg(image: Image.Image) -> bytes:
    """Save at quality 90."""
    file = BytesIO()
    image.save(file, "JPEG", quality=90)
    return file.getvalue()


if __name__ == "__main__":
    written.program(main)
