"""One rendered scene and how it is written in each format that is read."""

from io import BytesIO

from bench.preprocessing import rendered_scene

SCENE = rendered_scene((160, 120), seed=3)
ENCODINGS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WebP": {"lossless": True},
    "GIF": {},
    "AVIF": {"quality": 95, "speed": 10},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}


def saved(name, image=SCENE, **options):
    """Return the bytes of an image file."""
    file = BytesIO()
    image.save(file, name, **options)
    return file.getvalue()
