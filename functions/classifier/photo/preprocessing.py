"""Photo bytes to the uint8 array that a model takes: the same code for training, evaluation and serving."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifier.errors import InvalidImage, PointerError, TooLarge
from classifier.photo.colours import reduced, rgb_reduced
from classifier.photo.costs import cost_of_tiles, cost_to_load, cost_to_open
from classifier.photo.formats import PhotoFile, read
from classifier.photo.heic.container import Picture
from classifier.photo.heic.container import drafted as drafted_tiles
from classifier.photo.limits import Limits
from classifier.photo.orientation import stated
from classifier.photo.profiles import Conversion, conversion
from classifier.photo.truncation import ended, lacks_end

# `Limits` is the one guard: Pillow's own would warn or refuse before the size could be compared with the setting.
Image.MAX_IMAGE_PIXELS = None

COVER = 1.25
"""How much larger than the model's input a photo is decoded at least. At 1.25 a drafted JPEG differs from a full decode
by 0.3 to 2.7 grey levels on average; a 12-megapixel photo (4000x3000) for a 299x299 input is still decoded at 1/8."""
REDUCING_GAP = 2.0
KEPT_PIXELS = 1 << 22
"""More decoded pixels than these, as a photo has that is long and narrow, are not kept but decoded each time."""
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

FROM_THE_RIGHT, FROM_BELOW = (2, 3, 6, 7), (3, 4, 7, 8)
"""Orientations of which the upright photo's left side, or its top, is stored at the far end of an axis."""

Region = tuple[float, float, float, float]
"""Left, top, right and bottom as fractions of a photo's width and height."""
WHOLE: Region = (0.0, 0.0, 1.0, 1.0)


class Input(Protocol):
    """What a model wants: width, height in pixels and "stretch" or "crop"."""

    @property
    def width(self) -> int: ...  # noqa: D102

    @property
    def height(self) -> int: ...  # noqa: D102

    @property
    def resize(self) -> str: ...  # noqa: D102


class Photo:
    """A decoded photo, as made by `decode`. It keeps the file's bytes, to decode again where more detail is wanted.

    Attributes:
        size: width and height of the original in pixels, upright.
        format: "JPEG", "PNG", "WebP", "GIF", "AVIF", "HEIC", "BMP" or "TIFF".
    """

    def __init__(self, file: PhotoFile, limits: Limits, pixels: _Pixels) -> None:
        self._file = file
        self._limits = limits
        self._factor = pixels.factor
        self._kept = pixels if pixels.image.width * pixels.image.height <= KEPT_PIXELS else None
        self._orientation = pixels.orientation
        self.size = pixels.size
        self.format = file.format

    @property
    def image(self) -> Image.Image:
        """The photo in sRGB, upright, possibly at a reduced scale. Not to be drawn on."""
        with self._pixels(self._factor) as pixels:
            return self._upright(pixels.in_srgb(pixels.image))

    def array(self, width: int, height: int, resize: str = "stretch", window: Region = WHOLE) -> NDArray[np.uint8]:
        """Resize with an antialiased bilinear filter to uint8 [height, width, 3], sRGB.

        "stretch" takes the whole photo; "crop" the largest centred part with the aspect width:height. Of either only
        the `window` is shown, left, top, right, bottom in 0..1, at the full width and height.
        Sizes above those given to `decode` are decoded again, at the scale that they need.
        """
        factor = _reduction(self.size, width, height)
        left, top, right, bottom = self._stored(self.region(width, height, resize), window)
        if self._turned:
            width, height = height, width
        with self._pixels(factor) as pixels:
            across, down = pixels.extent
            box = left * across, top * down, min(right * across, across), min(bottom * down, down)
            small = pixels.image.resize((width, height), Image.Resampling.BILINEAR, box, REDUCING_GAP)
            small = pixels.in_srgb(small)  # the small one, whose pixels are few
        return np.asarray(self._upright(small))

    def region(self, width: int, height: int, resize: str = "stretch") -> Region:
        """Return the part of the photo that `array` with the same arguments shows: left, top, right, bottom in 0..1."""
        return region(self.size, width, height, resize)

    def display(self, max_side: int) -> Image.Image:
        """Return the photo for people: sRGB, upright, longer side `max_side` or a little less, never enlarged.

        Not to be drawn on: it may be the image that `array` reads.
        """
        wanted = min(max_side, max(self.size))
        enough = max(self.size) / self._factor >= 0.9 * wanted
        with self._pixels(self._factor if enough else max(self.size) // wanted) as pixels:
            image = pixels.image
            scale = wanted / max(image.size)
            if scale < 1:
                size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
                image = image.resize(size, Image.Resampling.BICUBIC, (0, 0, *pixels.extent), REDUCING_GAP)
            image = pixels.in_srgb(image)
        return self._upright(image)

    @property
    def _turned(self) -> bool:
        return self._orientation >= 5

    def _stored(self, shown: Region, window: Region) -> Region:
        """Return where a window of a centred part of the upright photo lies in the pixels as they are stored."""
        left, top, right, bottom = shown
        if window == WHOLE:  # a centred part stays centred, whichever way the photo is turned
            return (top, left, bottom, right) if self._turned else shown
        across, down = right - left, bottom - top
        x = left + window[0] * across, left + window[2] * across
        y = top + window[1] * down, top + window[3] * down
        if self._orientation in FROM_THE_RIGHT:
            x = 1 - x[1], 1 - x[0]
        if self._orientation in FROM_BELOW:
            y = 1 - y[1], 1 - y[0]
        return (y[0], x[0], y[1], x[1]) if self._turned else (x[0], y[0], x[1], y[1])

    def _upright(self, image: Image.Image) -> Image.Image:
        turn = ORIENTATIONS.get(self._orientation)
        return image if turn is None else image.transpose(turn)

    @contextmanager
    def _pixels(self, factor: int) -> Iterator[_Pixels]:
        """Lend the pixels at 1/factor or a little above: those that were kept, or decoded again."""
        if self._kept is not None and factor >= self._factor:
            yield self._kept
            return
        with _loaded(self._file, self._limits, lambda _: factor) as pixels:
            yield pixels


def decode(data: bytes, *, width: int, height: int, limits: Limits = Limits()) -> Photo:
    """Decode a photo at a scale that serves a model's input of width x height pixels.

    JPEG, PNG, WebP, GIF (first frame), AVIF, HEIC, BMP and TIFF (first page); turned as it says itself;
    transparent parts over white; 16-bit values scaled to 8; colours converted to sRGB as an embedded ICC profile says.

    Raises:
        TooLarge: over a limit. All are checked before anything is decoded.
        Overloaded: the memory that is shared with other photos did not become free in time.
        InvalidImage: not a photo in one of the formats, damaged, cut short, or pixels without a meaning as colours.
    """
    if len(data) > limits.max_bytes:
        raise TooLarge(
            f"The photo has {len(data):,} bytes; the limit is {limits.max_bytes:,} bytes. Send a smaller one."
        )
    file = _whole(read(data), limits)
    with _loaded(file, limits, lambda size: _reduction(size, width, height)) as pixels:
        return Photo(file, limits, pixels)


def load_array(data: bytes, spec: Input, limits: Limits = Limits()) -> NDArray[np.uint8]:
    """Decode and resize to uint8 [spec.height, spec.width, 3], RGB. Raises as `decode` does."""
    photo = decode(data, width=spec.width, height=spec.height, limits=limits)
    return photo.array(spec.width, spec.height, spec.resize)


def region(size: tuple[int, int], width: int, height: int, resize: str) -> Region:
    """Return the part of a photo of `size` that a width x height input shows: left, top, right, bottom in 0..1."""
    if resize == "stretch":
        return 0.0, 0.0, 1.0, 1.0
    if resize != "crop":
        raise ValueError(f'Expected resize "stretch" or "crop"; received {resize!r}.')
    shown = size[1] * width / (size[0] * height)  # of the width, where the whole height is shown
    across, down = (shown, 1.0) if shown < 1 else (1.0, 1 / shown)
    return (1 - across) / 2, (1 - down) / 2, (1 + across) / 2, (1 + down) / 2


_Reduction = Callable[[tuple[int, int]], int]
"""From a photo's upright size to the factor by which it may be reduced."""


class _Pixels(NamedTuple):
    image: Image.Image  # RGB, or what `colours` takes, as stored (not turned)
    factor: int  # 1/factor of the original
    extent: tuple[float, float]  # original size / factor: the last column and row may reach past the photo's edge
    size: tuple[int, int]  # of the original, upright
    orientation: int
    colours: Conversion | None

    def in_srgb(self, image: Image.Image) -> Image.Image:
        """Return an image made of these pixels in sRGB."""
        return image if self.colours is None else self.colours(image)


@contextmanager
def _reading(file: PhotoFile) -> Iterator[None]:
    """Turn whatever a decoder raises on bad bytes into one error; Pillow's plugins raise nearly everything."""
    try:
        yield
    except PointerError:
        raise
    except Exception as error:
        raise InvalidImage(
            f"The {file.format} photo is damaged or cut short and cannot be decoded. Send the whole file again."
        ) from error


@contextmanager
def _loaded(file: PhotoFile, limits: Limits, reduction: _Reduction) -> Iterator[_Pixels]:
    """Decode, at the scale that `reduction` gives for the upright size; the memory is lent until the end."""
    with ExitStack() as lent:
        with _reading(file):
            if file.size:
                _check_pixels(file.size, limits)
                lent.enter_context(_lent(file, file.size, cost_to_open(file), limits))
            if file.picture:
                pixels = _load_tiles(file, file.picture, limits, reduction, lent)
            else:
                pixels = _load_file(file, limits, reduction, lent)
        yield pixels


@contextmanager
def _lent(file: PhotoFile, size: tuple[int, int], cost: int, limits: Limits) -> Iterator[None]:
    if limits.memory is None:
        yield
        return
    if cost > limits.memory.total:
        raise TooLarge(
            f"The {file.format} photo is {size[0]:,} x {size[1]:,}; to decode it takes about {cost / 1e6:,.0f} MB of "
            f"memory, and the limit is {limits.memory.total / 1e6:,.0f} MB. Send a smaller one, or a baseline JPEG."
        )
    with limits.memory.lend(cost):
        yield


def _check_pixels(size: tuple[int, int], limits: Limits) -> None:
    width, height = size
    if width * height > limits.max_pixels:
        raise TooLarge(
            f"The photo is {width:,} x {height:,}, {width * height:,} pixels; "
            f"the limit is {limits.max_pixels:,} pixels. Send a smaller one."
        )


def _reduction(size: tuple[int, int], width: int, height: int) -> int:
    """Return the largest whole factor by which a photo can be reduced and still cover width x height, with a margin."""
    return max(1, min(int(size[0] / (width * COVER)), int(size[1] / (height * COVER))))


def _whole(file: PhotoFile, limits: Limits) -> PhotoFile:
    """Return a file with the end marker that a JPEG may lack; InvalidImage where more is missing."""
    if file.format != "JPEG" or not lacks_end(file.data):
        return file
    with _reading(file):
        image = Image.open(BytesIO(file.data), formats=["JPEG"])
        _check_pixels(image.size, limits)
        with _lent(file, image.size, cost_to_load(file, image, 1, 1), limits):
            return file._replace(data=ended(file.data))


def _load_file(file: PhotoFile, limits: Limits, reduction: _Reduction, lent: ExitStack) -> _Pixels:
    """Decode with Pillow, at 1/`reduction` or a little above."""
    image = Image.open(BytesIO(file.data), formats=[file.format.upper()])
    _check_pixels(image.size, limits)
    orientation, profile = file.orientation, file.profile
    if file.format in ("WebP", "AVIF"):
        # AVIF is turned by its own properties, which Pillow tells as EXIF; its XMP only repeats them.
        xmp = image.info.get("xmp", b"") if file.format == "WebP" else b""
        orientation = stated(exif=image.info.get("exif", b""), xmp=xmp)
        profile = image.info.get("icc_profile")
    factor = reduction(_turned(image.size, orientation))
    drafted = next(scale for scale in (8, 4, 2, 1) if scale <= factor) if image.format == "JPEG" else 1
    size = image.size
    lent.enter_context(_lent(file, size, cost_to_load(file, image, factor, drafted), limits))
    if image.format == "JPEG":
        image.draft(None, (size[0] // drafted, size[1] // drafted))
    image.load()
    return _pixels_of(image, size, factor, drafted, orientation, profile)


def _load_tiles(file: PhotoFile, picture: Picture, limits: Limits, reduction: _Reduction, lent: ExitStack) -> _Pixels:
    """Decode a HEIC photo, at 1/`reduction` or a little above."""
    factor = reduction(_turned(picture.size, picture.orientation))
    drafted = drafted_tiles(picture, factor)
    lent.enter_context(_lent(file, picture.size, cost_of_tiles(picture, factor, drafted), limits))
    from classifier.photo.heic import decoder  # libheif comes with the first photo that needs it

    image = decoder.decode(file.data, picture, drafted)
    return _pixels_of(image, picture.size, factor, drafted, picture.orientation, file.profile)


def _pixels_of(
    image: Image.Image, size: tuple[int, int], factor: int, drafted: int, orientation: int, profile: bytes | None
) -> _Pixels:
    """Reduce what was decoded at 1/drafted to 1/factor, in RGB, or in what the conversion to sRGB takes."""
    colours = conversion(profile, image.mode)
    if colours and colours.mode == "CMYK":  # averaged inks are not the average of what is printed with them
        image, colours = rgb_reduced(image, factor // drafted, colours), None
    else:
        image = reduced(image, factor // drafted, colours.mode if colours else None)
    image.info = {}  # nothing of the file's is to end up in an overlay
    done = drafted * (factor // drafted)
    return _Pixels(image, done, (size[0] / done, size[1] / done), _turned(size, orientation), orientation, colours)


def _turned(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size if orientation < 5 else size[::-1]
