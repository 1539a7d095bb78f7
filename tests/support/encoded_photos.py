"""One rendered scene and how it is written in each format that is read."""

from io import BytesIO

import pillow_heif

from bench.preprocessing import rendered_scene

SCENE = rendered_scene((160, 120), seed=3)
ENCODINGS = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "PNG": {},
    "WebP": {"lossless": True},
    "GIF": {},
    "AVIF": {"quality": 95, "speed": 10},
    "HEIC": {"quality": 95, "subsampling": "4:4:4"},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
}


pillow_heif.register_heif_opener()  # here, to write with: what is served reads HEIC by other ways


def saved(name, image=SCENE, **options):
    """Return the bytes of an image file."""
    file = BytesIO()
    if name == "HEIC":
        options["enc_params"] = {"preset": "ultrafast"}
    image.save(file, {"HEIC": "HEIF"}.get(name, name), **options)
    return file.getvalue()
