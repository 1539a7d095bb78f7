"""Embedded ICC profiles: colours as lcms has them of the whole photo, and nothing that a profile could do harm with."""

import random
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from bench.preprocessing import rendered_scene
from classifier.photo import formats, profiles
from classifier.photo.preprocessing import decode
from tests.support import colour_profiles
from tests.support.colour_profiles import ADOBE_RGB, DISPLAY_P3, by_lcms, curve, display, grey, press, table, xyz
from tests.support.encoded_photos import saved
from tests.support.processes import FUNCTIONS
from tests.support.real_data import DATA

SCENE = rendered_scene((480, 360), seed=3)
SRGB = colour_profiles.srgb().tobytes()
ADOBE = display(*ADOBE_RGB)
OPTIONS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WebP": {"lossless": True},
    "AVIF": {"quality": 95, "speed": 10},
    "HEIC": {"quality": 95, "subsampling": "4:4:4"},
    "TIFF": {"compression": "tiff_lzw"},
}


def array(data, width=120, height=90):
    return decode(data, width=width, height=height).array(width, height)


def small(image, size=(120, 90)):
    return np.asarray(image.resize(size, Image.Resampling.BILINEAR))


def difference(one, other):
    return float(np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean())


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("space", [ADOBE_RGB, DISPLAY_P3], ids=["Adobe RGB", "Display P3"])
def test_colours_are_those_of_lcms_on_the_whole_photo(name, space):
    profile = display(*space)
    data = saved(name, SCENE, icc_profile=profile, **OPTIONS[name])
    bare = small(SCENE)
    expected = by_lcms(SCENE, profile)
    photo = decode(data, width=120, height=90)
    assert photo.image.size != SCENE.size  # reduced before it is converted
    assert difference(photo.array(120, 90), small(expected)) < 2 < difference(bare, small(expected)) * 1.5
    assert difference(photo.display(240), small(expected, (240, 180))) < 2
    assert difference(photo.image, small(expected, photo.image.size)) < 2


@pytest.mark.skipif(not (DATA.parent / "cases/colour").is_dir(), reason="needs ../cases/colour beside POINTER_DATA")
@pytest.mark.parametrize("name", ["adobe-rgb.jpg", "adobe-rgb.png", "display-p3.jpg", "display-p3.png"])
def test_real_photos_with_real_profiles(name):
    folder = DATA.parent / "cases/colour"
    expected = Image.open(folder / f"{name.replace('.', '-')}.expected.png").convert("RGB")
    data = (folder / name).read_bytes()
    for size in (expected.size, (224, 224), (96, 96)):
        assert difference(array(data, *size), small(expected, size)) < 2


@pytest.mark.parametrize(
    ("name", "mode", "profile"),
    [
        ("PNG", "L", grey(1.2)),
        ("JPEG", "L", grey(1.2)),
        ("TIFF", "L", grey(1.2)),
        ("PNG", "LA", grey(1.2)),
        ("PNG", "RGBA", ADOBE),
        ("PNG", "P", ADOBE),
        ("TIFF", "RGBA", ADOBE),
        ("JPEG", "CMYK", press()),
        ("TIFF", "CMYK", press()),
    ],
)
def test_grey_palettes_transparency_and_inks(name, mode, profile):
    image = SCENE.quantize(200) if mode == "P" else SCENE.convert(mode)
    data = saved(name, image, icc_profile=profile, **OPTIONS[name] if name == "JPEG" else {})
    plain = Image.open(BytesIO(data)) if mode == "CMYK" else image.convert("L" if mode in ("L", "LA") else "RGB")
    expected = by_lcms(plain, profile)
    assert difference(array(data), small(expected)) < 2
    assert difference(plain.convert("RGB"), expected) > 3
    assert difference(array(data, 480, 360), expected) < 2  # not reduced


def test_black_and_white_alone_stay_what_they_are():
    image = SCENE.convert("1")
    assert np.array_equal(array(saved("PNG", image, icc_profile=grey(1.2))), array(saved("PNG", image)))


def test_16_bits_of_grey():
    values = np.asarray(SCENE.convert("L")).astype(np.uint16) * 257
    data = saved("PNG", Image.fromarray(values), icc_profile=grey(1.2))
    assert difference(array(data), small(by_lcms(SCENE.convert("L"), grey(1.2)))) < 2


def test_lab_needs_no_profile_and_believes_none():
    image = ImageCms.profileToProfile(SCENE, colour_profiles.srgb(), ImageCms.createProfile("LAB"), outputMode="LAB")
    for more in ({}, {"icc_profile": ADOBE}):
        assert difference(array(saved("TIFF", image, **more)), small(SCENE)) < 2


def test_transparent_parts_stay_white():
    image = SCENE.convert("RGBA")
    image.putalpha(Image.new("L", SCENE.size, 0))
    assert array(saved("PNG", image, icc_profile=ADOBE)).min() == 255


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_profile_in_a_photo_that_is_turned(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved("JPEG", SCENE, icc_profile=ADOBE, exif=exif, **OPTIONS["JPEG"])
    expected = by_lcms(SCENE, ADOBE)
    expected = expected if orientation == 1 else expected.transpose(Image.Transpose.ROTATE_270)
    assert difference(array(data, 90, 90), small(expected, (90, 90))) < 2


@pytest.mark.parametrize("name", OPTIONS)
def test_nothing_is_done_where_the_profile_is_srgb(name):
    with_profile = decode(saved(name, SCENE, icc_profile=SRGB, **OPTIONS[name]), width=480, height=360)
    assert with_profile.display(480) is with_profile.image  # no copy, so no conversion
    plain = decode(saved(name, SCENE, **OPTIONS[name]), width=480, height=360)
    assert np.array_equal(with_profile.array(480, 360), plain.array(480, 360))


def png_with(*chunks):
    data = saved("PNG", SCENE)
    made = b"".join(
        len(body).to_bytes(4, "big") + name + body + zlib.crc32(name + body).to_bytes(4, "big") for name, body in chunks
    )
    return data[:33] + made + data[33:]


def test_gamma_chromaticities_and_code_points_of_a_png_change_nothing():
    told = png_with(
        (b"gAMA", (100_000).to_bytes(4, "big")),
        (
            b"cHRM",
            b"".join(value.to_bytes(4, "big") for value in (31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)),
        ),
        (b"cICP", b"\x0c\x0d\0\1"),
    )
    assert np.array_equal(array(told), array(saved("PNG", SCENE)))


CURVES = {name: curve(np.zeros(2)) for name in (b"rTRC", b"gTRC", b"bTRC")}
PRIMARIES = {name: xyz((0.3, 0.3, 0.3)) for name in (b"rXYZ", b"gXYZ", b"bXYZ")}


def announcing(points):
    """A curve of more points than there are."""
    return b"curv" + bytes(4) + points.to_bytes(4, "big") + bytes(20)


@pytest.mark.parametrize(
    "profile",
    [
        b"a profile",
        bytes(4000),
        ADOBE[:200],
        ADOBE[:-10],
        ADOBE.replace(b"acsp", b"acsq"),
        ADOBE.replace(b"RGB ", b"HSV "),
        ADOBE.replace(b"RGB ", b"GRAY"),
        ADOBE.replace(b"mntr", b"link"),
        ADOBE.replace(b"curv", b"what"),
        ADOBE[:128] + b"\xff\xff\xff\xff" + ADOBE[132:],
        ADOBE + bytes(profiles.MAX_PROFILE),
        colour_profiles.profile(b"RGB ", {}),
        colour_profiles.profile(b"RGB ", {**PRIMARIES, **CURVES, b"gTRC": announcing(0xFFFFFFFF)}),
        colour_profiles.profile(b"RGB ", {**PRIMARIES, **CURVES, b"gTRC": announcing(1000)}),
        colour_profiles.profile(b"RGB ", {b"A2B0": table(3, np.zeros((8, 3)))[:-1]}, connection=b"Lab "),
        colour_profiles.profile(
            b"RGB ", {b"A2B0": table(3, np.zeros((8, 3))).replace(b"\3\3\2", b"\3\3\xff")}, connection=b"Lab "
        ),
        press(),
    ],
)
@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_a_profile_that_cannot_be_believed_is_ignored(name, profile):
    assert np.array_equal(array(saved(name, SCENE, icc_profile=profile)), array(saved(name, SCENE)))


def test_damaged_profiles_never_fail():
    chance = random.Random(4)
    images = {"RGB": SCENE.resize((20, 20)), "CMYK": SCENE.resize((20, 20)).convert("CMYK")}
    images["L"] = images["RGB"].convert("L")
    used = 0
    for profile, mode in ((ADOBE, "RGB"), (SRGB, "RGB"), (press(2), "CMYK"), (grey(1.8), "L")):
        for _ in range(60):
            damaged = bytearray(profile)
            for _ in range(chance.randrange(1, 5)):
                damaged[chance.randrange(len(damaged) if chance.random() < 0.5 else min(len(damaged), 300))] = (
                    chance.randrange(256)
                )
            conversion = profiles.conversion(bytes(damaged), mode)
            used += conversion is not None and conversion(images[mode]).mode == "RGB"
    assert 20 < used < 230


def test_a_profile_in_parts_whose_numbers_are_wrong():
    """A JPEG has it in segments of 64 kB."""
    rng = np.random.default_rng(0)
    curves = {name: curve(np.sort(rng.integers(0, 65536, 20_000))) for name in (b"rTRC", b"gTRC", b"bTRC")}
    primaries = zip((b"rXYZ", b"gXYZ", b"bXYZ"), map(xyz, ADOBE_RGB[0]), strict=True)
    profile = colour_profiles.profile(b"RGB ", {**dict(primaries), **curves})
    data = saved("JPEG", SCENE, icc_profile=profile)
    assert data.count(b"ICC_PROFILE\0") == 2
    assert formats.read(data).profile == profile
    assert difference(array(data), small(by_lcms(SCENE, profile))) < 2
    swapped = data.replace(b"ICC_PROFILE\0\1", b"ICC_PROFILE\0\7").replace(b"ICC_PROFILE\0\2", b"ICC_PROFILE\0\1")
    swapped = swapped.replace(b"ICC_PROFILE\0\7", b"ICC_PROFILE\0\2")
    assert formats.read(swapped).profile not in (None, profile)
    for wrong in (b"\2\3", b"\2\0", b"\1\2"):
        assert formats.read(data.replace(b"ICC_PROFILE\0\2\2", b"ICC_PROFILE\0" + wrong)).profile is None


def test_conversions_are_kept_but_not_without_end_and_threads_share_them():
    given = [display(ADOBE_RGB[0], 1 + step / 10) for step in range(2 * profiles.KEPT_CONVERSIONS)]
    image = SCENE.resize((64, 48))

    def pixels(profile):
        return np.asarray(profiles.conversion(profile, "RGB")(image))

    one_by_one = [pixels(profile) for profile in given]
    assert profiles.conversion(given[-1], "RGB") is profiles.conversion(given[-1], "RGB")
    with ThreadPoolExecutor(8) as pool:
        assert all(map(np.array_equal, pool.map(pixels, given * 4), one_by_one * 4))
    assert len(profiles._known) == profiles.KEPT_CONVERSIONS


def test_what_is_known_does_not_wait_for_what_is_made():
    known = profiles.conversion(ADOBE, "RGB")
    with profiles._making, ThreadPoolExecutor(1) as pool:
        assert pool.submit(profiles.conversion, ADOBE, "RGB").result(timeout=20) is known


MEASURE = """
import re, sys, time
from pathlib import Path
from classifier.photo import profiles

def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024

files = [Path(path).read_bytes() for path in sys.argv[1:]]
profiles.conversion(files[0], "L")
before, started = status("VmRSS"), time.process_time()
made = [profiles.conversion(file, "CMYK") is not None for file in files[1:]]
print(made.count(True), time.process_time() - started, status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_largest_profiles_are_bounded_in_time_and_memory(tmp_path):
    """One after the other, as somebody would send them who wanted to tie up an instance."""
    (tmp_path / "first").write_bytes(grey(1.2))  # lcms is imported with it
    rng, names = np.random.default_rng(1), []
    for index in range(3):
        body = table(4, rng.integers(0, 256, (33**4, 3)))
        names.append(tmp_path / str(index))
        names[-1].write_bytes(colour_profiles.profile(b"CMYK", {b"A2B0": body}, connection=b"Lab ", kind=b"prtr"))
        assert 0.8 * profiles.MAX_PROFILE < names[-1].stat().st_size <= profiles.MAX_PROFILE
    command = [sys.executable, "-c", MEASURE, tmp_path / "first", *names]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(FUNCTIONS)})
    made, seconds, memory = map(float, result.stdout.split())
    assert made == 3
    assert seconds < 3 * 1  # 0.1 to 0.3 s each
    assert memory < 64e6


def test_the_rebuilt_profile_says_nothing_of_who_made_it():
    assert b"ABCD" in ADOBE
    kept = profiles.believed(ADOBE, b"RGB ")
    assert b"ABCD" not in kept and len(kept) <= len(ADOBE)
    assert profiles.believed(kept, b"RGB ") == kept
    assert np.array_equal(by_lcms(SCENE, kept), by_lcms(SCENE, ADOBE))


def test_lcms_is_imported_with_the_first_profile_that_needs_it(tmp_path):
    (tmp_path / "plain.jpg").write_bytes(saved("JPEG"))
    (tmp_path / "adobe.jpg").write_bytes(saved("JPEG", icc_profile=ADOBE))
    (tmp_path / "grey.png").write_bytes(saved("PNG", SCENE.convert("L"), icc_profile=grey(1.2)))
    program = """
import sys
from pathlib import Path
from classifier.photo.preprocessing import decode
for name in ("plain.jpg", "adobe.jpg", "grey.png"):
    decode(Path(sys.argv[1], name).read_bytes(), width=9, height=9)
    print("classifier.photo.matrix_profiles" in sys.modules, "PIL.ImageCms" in sys.modules)
"""
    command = [sys.executable, "-c", program, tmp_path]
    result = subprocess.run(command, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(FUNCTIONS)})
    assert result.stdout.splitlines() == ["False False", "True False", "True True"]
