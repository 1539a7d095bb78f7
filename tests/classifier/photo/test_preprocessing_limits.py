"""What `photo.preprocessing` does with photos too large, damaged or many at once: limits, one error, memory."""

import resource
import struct
import subprocess
import sys
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from classifier.errors import InvalidImage, Overloaded, TooLarge
from classifier.photo.limits import Limits
from classifier.photo.memory import Memory
from classifier.photo.preprocessing import decode
from classifier.serving.instance import Instance
from classifier.serving.prediction import predict
from classifier.serving.query import TOP_LABEL, Query
from tests.support.app_client import settings_for
from tests.support.encoded_photos import ENCODINGS, SCENE, saved
from tests.support.processes import FUNCTIONS


def test_byte_limit_comes_first():
    with pytest.raises(TooLarge, match=r"1,001 bytes; the limit is 1,000 bytes"):
        decode(bytes(1001), width=1, height=1, limits=Limits(max_bytes=1000))


def png_header(width, height, data=b""):
    def chunk(name, body):
        return struct.pack(">L", len(body)) + name + body + struct.pack(">L", zlib.crc32(name + body))

    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">LLBBBBB", width, height, 8, 2, 0, 0, 0))
        + chunk(b"IDAT", data)
        + chunk(b"IEND", b"")
    )


def test_png_bomb_is_refused_by_its_size():
    rows = zlib.compressobj(1)
    bomb = b"".join(rows.compress(bytes(60_001 * 100)) for _ in range(200)) + rows.flush()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TooLarge, match=r"20,000 x 20,000, 400,000,000 pixels; the limit is 50,000,000 pixels"):
        decode(png_header(20_000, 20_000, bomb), width=299, height=299)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB; decoded it would be 1.6 GB


@pytest.mark.parametrize("name", ENCODINGS)
def test_pixel_limit_in_every_format(name):
    with pytest.raises(TooLarge, match="160 x 120, 19,200 pixels; the limit is 19,199"):
        decode(saved(name), width=10, height=10, limits=Limits(max_pixels=19_199))
    assert decode(saved(name), width=10, height=10, limits=Limits(max_pixels=19_200)).size == (160, 120)


@pytest.mark.parametrize("size", [(0, 5), (5, 0), (0, 0)])
def test_zero_size(size):
    with pytest.raises(InvalidImage):
        decode(png_header(*size), width=10, height=10)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.parametrize("part", [0.2, 0.5, 0.9])
def test_truncated_photo(name, part):
    data = saved(name, **ENCODINGS[name])
    with pytest.raises(InvalidImage, match="truncated" if name == "JPEG" else "damaged"):
        decode(data[: int(len(data) * part)], width=10, height=10)


@pytest.mark.parametrize("name", ENCODINGS)
def test_damaged_bytes_give_a_photo_or_one_kind_of_error(name):
    rng = np.random.default_rng(5)
    data = saved(name, **ENCODINGS[name])
    readable = 0
    for _ in range(120):
        damaged = bytearray(data)
        for place in rng.integers(0, len(data) if rng.random() < 0.5 else 400, rng.integers(1, 6)):
            damaged[place] = rng.integers(256)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                decode(bytes(damaged), width=64, height=48).array(64, 48)
                readable += 1
            except (InvalidImage, TooLarge) as error:
                assert str(error).endswith(".")
        assert [str(warning.message) for warning in caught] == []
    assert readable < 120


def test_threads_get_the_same_arrays():
    files = [saved(name, **options) for name, options in ENCODINGS.items()] * 8

    def array(data):
        return decode(data, width=64, height=64).array(64, 64)

    one_by_one = [array(data) for data in files]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(np.array_equal, pool.map(array, files), one_by_one))


MEASURE_PEAK = """
import resource, sys
from pathlib import Path
from classifier.photo.preprocessing import decode
decode(Path(sys.argv[2]).read_bytes(), width=64, height=64).array(64, 64)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decode(Path(sys.argv[1]).read_bytes(), width=299, height=299).array(299, 299)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_large_alpha_png_is_decoded_with_one_full_copy(tmp_path):
    (tmp_path / "large.png").write_bytes(
        saved("PNG", Image.new("RGBA", (5000, 3000), (9, 8, 7, 100)), compress_level=1)
    )
    (tmp_path / "small.png").write_bytes(saved("PNG", SCENE.convert("RGBA")))
    command = [sys.executable, "-c", MEASURE_PEAK, tmp_path / "large.png", tmp_path / "small.png"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(FUNCTIONS)})
    assert int(result.stdout) * 1024 < 1.5 * 5000 * 3000 * 4  # one copy of 4 bytes a pixel, and strips


def test_a_phones_photos_fit_the_default_memory():
    limits = Limits(memory=Memory(200 * 2**20, wait=0))
    phone = Image.new("RGB", (4032, 3024), "red")
    for name, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("WebP", {"method": 0}), ("PNG", {})):
        assert decode(saved(name, phone, **options), width=299, height=299, limits=limits).size == phone.size
    largest = saved("JPEG", Image.new("RGB", (8660, 5773), "red"))  # 50 million pixels
    assert decode(largest, width=299, height=299, limits=limits).size == (8660, 5773)


@pytest.mark.parametrize(
    ("name", "mode", "options", "each"),
    [
        ("WebP", "RGB", {"method": 0}, 16),
        ("AVIF", "RGB", {"speed": 10}, 9),
        ("HEIC", "RGB", {}, 8),
        ("HEIC", "RGB", {"subsampling": "4:4:4"}, 15),
        ("JPEG", "RGB", {"progressive": True, "subsampling": 0}, 6),
        ("JPEG", "RGB", {"progressive": True}, 3),
        ("PNG", "RGBA", {"compress_level": 1}, 5),
        ("TIFF", "RGBA", {"compression": "tiff_lzw"}, 5),
        ("TIFF", "RGB", {"compression": "tiff_lzw", "tiffinfo": {278: 2000}}, 7),
    ],
)
def test_a_photo_over_the_memory_is_refused_by_its_header(name, mode, options, each):
    data = saved(name, Image.new(mode, (3000, 2000), "red"), **options)
    limits = Limits(memory=Memory(6_000_000 * each, wait=0))
    with pytest.raises(TooLarge, match=r"photo is 3,000 x 2,000; to decode it takes about \d+ MB .* limit is \d+ MB"):
        decode(data, width=299, height=299, limits=limits)
    decode(data, width=299, height=299)


def test_a_long_narrow_photo_is_not_kept_in_memory():
    image = Image.new("RGB", (30_000, 200), "red")
    image.paste("blue", (0, 0, 15_000, 200))
    memory = Memory(100 * 2**20, wait=0)
    photo = decode(saved("PNG", image), width=99, height=99, limits=Limits(memory=memory))
    assert photo._kept is None
    array = photo.array(99, 99)
    assert (array[50, 20].tolist(), array[50, 80].tolist()) == ([0, 0, 255], [255, 0, 0])
    assert photo.display(500).size == (500, 3)
    assert memory.line.lent == 0


def test_waiting_for_memory_ends():
    data = saved("WebP", Image.new("RGB", (1000, 800)))
    memory = Memory(20_000_000, wait=0.05)
    with memory.lend(15_000_000):
        with pytest.raises(Overloaded, match="large photos"):
            decode(data, width=99, height=99, limits=Limits(memory=memory))
        decode(saved("JPEG"), width=99, height=99, limits=Limits(memory=memory))  # a small one does not wait
    decode(data, width=99, height=99, limits=Limits(memory=memory))


MEASURE_TOGETHER = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from classifier.photo.memory import Memory
from classifier.photo.preprocessing import Limits, decode

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

data, limits = Path(sys.argv[1]).read_bytes(), Limits(memory=Memory(int(sys.argv[2]), wait=60))
decode(Path(sys.argv[3]).read_bytes(), width=64, height=64)
before = peak()
with ThreadPoolExecutor(8) as pool:
    assert len(list(pool.map(lambda _: decode(data, width=99, height=99, limits=limits), range(16)))) == 16
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_photos_decoded_at_the_same_time_stay_in_the_memory(tmp_path):
    (tmp_path / "large.webp").write_bytes(saved("WebP", Image.new("RGB", (3000, 2000)), method=0))
    (tmp_path / "small.webp").write_bytes(saved("WebP"))
    total = 220_000_000  # room for two of 102 MB
    command = [sys.executable, "-c", MEASURE_TOGETHER, tmp_path / "large.webp", str(total), tmp_path / "small.webp"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(FUNCTIONS)})
    assert int(result.stdout) < total  # without the bound, eight take 768 MB


def test_overlays_take_their_turn_too(published):
    """Eight of 2,048 pixels took 500 MB, a function's whole memory."""
    settings = settings_for(published)
    loaded, photo = Instance(settings).current(), saved("JPEG", Image.new("RGB", (640, 480), "red"))
    memory = Memory(40_000_000, wait=0.05)  # room for ten of them
    large, small = Query(gradcam=TOP_LABEL, gradcam_size=640), Query(gradcam=TOP_LABEL, gradcam_size=64)
    assert predict(loaded, photo, large, Limits(memory=Memory(2_000_000, wait=0))).overlay  # more than all of it
    with memory.lend(38_000_000):
        with pytest.raises(Overloaded):
            predict(loaded, photo, large, Limits(memory=memory))
        assert predict(loaded, photo, small, Limits(memory=memory)).overlay  # a small one does not wait
    assert predict(loaded, photo, large, Limits(memory=memory)).overlay
    assert memory.line.lent == 0
