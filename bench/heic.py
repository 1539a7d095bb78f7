"""What a HEIC photo costs: taken apart and decoded a tile at a time, against a decoder in a process of its own.

    python bench/heic.py [--runs 5]

The peer is what could stand in the place of `classifier.photo.heic`: a child with nothing but Pillow and pillow-heif,
which is given a photo, decodes it whole under a limit of its address space, and answers with the model's pixels. Both
ways take turns, each time in a process that has decoded nothing before. The first photo's time has what is imported for
it, of the peer the child's start too; memory is VmHWM beyond what the process had before, of the peer all of the child.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "functions")]

SIDE = 299
LATER = 3
PHOTOS = {
    "12 megapixels in tiles": ((4032, 3024), 512),
    "24 megapixels in tiles": ((5712, 4284), 512),
    "12 megapixels, one picture": ((4032, 3024), 0),
}
CHILD = f"""
import resource, sys
import pillow_heif
from PIL import Image
resource.setrlimit(resource.RLIMIT_AS, (512 << 20, 512 << 20))
pillow_heif.options.DECODE_THREADS = 1
pillow_heif.options.THUMBNAILS = pillow_heif.options.DEPTH_IMAGES = pillow_heif.options.AUX_IMAGES = False
while size := sys.stdin.buffer.read(8):
    image = pillow_heif.open_heif(sys.stdin.buffer.read(int.from_bytes(size, "big"))).to_pillow().convert("RGB")
    factor = min(image.size) // {SIDE}
    small = image.reduce(max(1, factor // 2)).resize(({SIDE}, {SIDE}), Image.Resampling.BILINEAR)
    sys.stdout.buffer.write(small.tobytes())
    sys.stdout.buffer.flush()
"""


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--alone", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        way, file = options.alone
        print(json.dumps({"tiles": tiles, "process": process}[way](Path(file).read_bytes())))
        return
    print("photo                        way      first ms  later ms    MB   (medians)")
    for name, (size, tile) in PHOTOS.items():
        with tempfile.NamedTemporaryFile(suffix=".heic") as file:
            file.write(encoded(size, tile))
            file.flush()
            found: dict[str, list[dict[str, float]]] = {"tiles": [], "process": []}
            for _ in range(options.runs):
                for way, rounds in found.items():
                    rounds.append(alone(way, file.name))
        for way, rounds in found.items():
            first, later, memory = (median(each[key] for each in rounds) for key in ("first", "later", "memory"))
            print(f"{name:<28} {way:<8} {first:>8.0f}  {later:>8.0f}  {memory:>4.0f}", flush=True)


def encoded(size: tuple[int, int], tile: int) -> bytes:
    """Return a rendered scene as HEIC, in tiles of this side, or with 0 in one piece."""
    import pillow_heif

    from bench.preprocessing import rendered_scene

    pillow_heif.register_heif_opener()
    buffer = BytesIO()
    rendered_scene(size).save(buffer, "HEIF", quality=60, **({"tile_size": tile} if tile else {}))
    return buffer.getvalue()


def alone(way: str, file: str) -> dict[str, float]:
    """Measure one way in a process of its own."""
    command = [sys.executable, __file__, "--alone", way, file]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)
    return found


def tiles(data: bytes) -> dict[str, float]:
    """Decode as the function does."""
    from classifier.photo import preprocessing

    before = peak("self")
    times = timed(lambda: preprocessing.decode(data, width=SIDE, height=SIDE).array(SIDE, SIDE))
    return {**times, "memory": peak("self") - before}


def process(data: bytes) -> dict[str, float]:
    """Decode in a child, which stays for the next photo."""
    children: list[subprocess.Popen[bytes]] = []

    def decode() -> None:
        if not children:
            children.append(
                subprocess.Popen([sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            )
        child: Any = children[0]
        child.stdin.write(len(data).to_bytes(8, "big") + data)
        child.stdin.flush()
        if len(child.stdout.read(3 * SIDE * SIDE)) < 3 * SIDE * SIDE:
            raise RuntimeError("the child ended without an answer")

    times = timed(decode)
    memory = peak(str(children[0].pid))
    with suppress(OSError):
        children[0].communicate(timeout=10)
    return {**times, "memory": memory}


def timed(decode: Callable[[], object]) -> dict[str, float]:
    """Return the milliseconds of the first photo, and the median of those after it."""
    took = []
    for _ in range(1 + LATER):
        began = time.perf_counter()
        decode()
        took.append(1000 * (time.perf_counter() - began))
    return {"first": took[0], "later": median(took[1:])}


def peak(process_id: str) -> float:
    """Return the most memory that a process has had, in MB."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc", process_id, "status").read_text())
    return int(found[1]) / 1000 if found else 0.0


if __name__ == "__main__":
    main()
