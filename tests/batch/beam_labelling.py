"""`admin_cli label` on folders: the endpoint's answers in Parquet, what cannot be read, and what is done already."""

from __future__ import annotations

import base64
import hashlib
import shutil
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.app_client import client_for
from tests.support.bundles import TINY_LABELS, colour_photo
from tests.support.encoded_photos import ENCODINGS, SCENE, saved
from tests.support.labelling import (
    Engine,
    Failed,
    engine_fixture,  # noqa: F401  # a fixture
    job_for,
    label,
    needs_beam,
    rows,
)
from tests.support.serving import MODEL, bomb, damage, publish

pytestmark = needs_beam


def photos_of_all_formats() -> dict[str, bytes]:
    """Photos as they are sent to the function, and files that are none."""
    found = {f"{name}.photo": saved(name, **options) for name, options in ENCODINGS.items()}
    for name, image, form, options in (
        ("cmyk.jpg", SCENE.convert("CMYK"), "JPEG", {}),
        ("grey.jpg", SCENE.convert("L"), "JPEG", {}),
        ("palette.png", SCENE.quantize(16), "PNG", {}),
        ("grey16.png", SCENE.convert("L").convert("I;16"), "PNG", {}),
        ("progressive.jpg", SCENE, "JPEG", {"progressive": True}),
        ("large.jpg", SCENE.resize((2000, 1500)), "JPEG", {"quality": 50}),
        ("long.jpg", SCENE.resize((900, 60)), "JPEG", {}),
    ):
        found[name] = saved(form, image, **options)
    transparent = SCENE.convert("RGBA")
    transparent.putalpha(128)
    found["transparent.png"] = saved("PNG", transparent)
    for orientation in range(2, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        found[f"turned-{orientation}.jpg"] = saved("JPEG", exif=exif)
    for colour in TINY_LABELS:
        found[f"{colour}.png"] = colour_photo(colour, size=(90, 40))
    jpeg = saved("JPEG")
    return found | {
        "empty.jpg": b"", "text.jpg": b"not a photo", "cut.jpg": jpeg[: len(jpeg) // 2], "bomb.png": bomb(),
        "many bytes.jpg": jpeg + bytes(200_000),
    }  # fmt: skip


@pytest.fixture(scope="module", name="photos")
def photos_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for name, content in photos_of_all_formats().items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module", name="store")
def store_fixture(tmp_path_factory: pytest.TempPathFactory, tiny_bundle_original: Path) -> Path:
    store = tmp_path_factory.mktemp("store") / "store"
    publish(store, tiny_bundle_original)
    return store


@pytest.mark.parametrize(
    ("query", "options", "limit"),
    [
        ("", {}, 190_000),
        ("?top_k=2&tta=all&gradcam=1", {"top_k": 2, "tta": "all", "gradcam": True, "threads": 2}, 1 << 24),
    ],
)
def test_a_photo_gets_the_endpoints_answer_to_the_last_digit_in_every_format(
    engine: Engine, photos: Path, store: Path, tmp_path: Path, query: str, options: dict[str, Any], limit: int
) -> None:
    engine.label(job_for(store, f"{photos}/**", tmp_path / "out", max_image_bytes=limit, **options))
    found = {Path(row["path"]).name: row for row in rows(tmp_path / "out")}
    contents = {path.name: path.read_bytes() for path in photos.iterdir()}
    assert set(found) == set(contents)
    client = client_for(store, max_image_bytes=limit)
    for name, content in contents.items():
        reply = client.post(f"/{query}", data=content, content_type="application/octet-stream")
        expected, row = reply.get_json(), found[name]
        assert row["path"] == f"{photos}/{name}" and row["generation"] == (photos / name).stat().st_mtime_ns
        assert row["version"] == "v1"
        if reply.status_code != 200:
            assert (row["status"], row["error"]) == ("unreadable", expected["detail"]), name
            assert row["label"] is row["confidence"] is row["score"] is row["width"] is row["top_k"] is None
            continue
        said = {each: row[each] for each in ("label", "confidence", "status", "score")}
        assert said == {each: expected[each] for each in said}, name
        assert row["top_k"] == expected["predictions"] and row["error"] is None
        assert row["sha256"] == hashlib.sha256(content).hexdigest()
        if "gradcam" in expected:
            assert row["overlay"] == expected["gradcam"]["image"], name
            Image.open(BytesIO(base64.b64decode(row["overlay"]))).verify()
    unreadable = {name for name, row in found.items() if row["status"] == "unreadable"}
    assert unreadable == {"empty.jpg", "text.jpg", "cut.jpg", "bomb.png"} | (
        {"many bytes.jpg"} if limit < 200_000 else set()
    )
    sizes = {name: (row["width"], row["height"]) for name, row in found.items()}
    assert sizes["large.jpg"] == (2000, 1500) and sizes["turned-6.jpg"] == SCENE.size[::-1]
    assert {row["label"] for name, row in found.items() if name.removesuffix(".png") in TINY_LABELS} == set(TINY_LABELS)


def test_what_is_labelled_is_skipped_and_what_changed_is_told(engine: Engine, store: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "photos", tmp_path / "out"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number:02}.png").write_bytes(colour_photo(TINY_LABELS[number % 4], seed=number))
    env: dict[str, Any] = {"MODEL_STORE": store, "MODEL_NAME": MODEL}
    sample = label(folder, "--out", out, "--sample", "10", "--json", **env).json()
    assert (sample["listed"]["listed"], sample["photos"]) == (10, 10)
    first = rows(out)
    assert len(first) == 10
    files = {path: path.read_bytes() for path in out.rglob("*.parquet")}

    gone, changed = (Path(row["path"]) for row in first[:2])
    gone.unlink()
    label_before, changed_label = first[1]["label"], "red" if first[1]["label"] != "red" else "blue"
    changed.write_bytes(colour_photo(changed_label, seed=99))
    done = label(folder, "--out", out, **env).well()
    assert "39 photos, 8 labelled before, 31 to label" in done
    assert f"1 changed since v1 labelled them; their new bytes are labelled, such as {changed}" in " ".join(
        done.split()
    )
    assert f"1 gone since v1 labelled them; their rows stay, such as {gone}" in " ".join(done.split())
    assert {path: path.read_bytes() for path in files} == files  # nothing that was there was touched
    found = rows(out)
    assert [row for row in found if row in first] == first and len(found) == 41
    assert [row["label"] for row in found if row["path"] == str(changed)] == [label_before, changed_label]

    done = label(folder, "--out", out, **env).well()
    assert "39 photos, 39 labelled before, 0 to label" in done and "changed" not in done
    assert rows(out) == found
    assert not list(out.glob("version=v1/_plan/*")) and not list(out.glob("version=v1/_failed/*"))


def test_rows_of_other_options_or_another_model_are_refused(
    engine: Engine, store: Path, tmp_path: Path, confused_bundle: Path
) -> None:
    photo, out = tmp_path / "red.png", tmp_path / "out"
    photo.write_bytes(colour_photo("red"))
    engine.label(job_for(store, photo, out))
    with pytest.raises(Failed, match=r"^Refused: .* to have top_k 3, as this job; they have 5"):
        engine.label(job_for(store, photo, out, top_k=3))
    other = tmp_path / "other"
    publish(other, confused_bundle)
    with pytest.raises(Failed, match=r"^Refused: .* to have manifest_sha256"):
        engine.label(job_for(other, photo, out))
    assert [row["label"] for row in rows(out)] == ["red"]


def test_a_version_that_is_damaged_or_replaced_labels_nothing(engine: Engine, store: Path, tmp_path: Path) -> None:
    damaged, photo, out = tmp_path / "store", tmp_path / "red.png", tmp_path / "out"
    shutil.copytree(store, damaged)
    photo.write_bytes(colour_photo("red"))
    job = job_for(damaged, photo, out)
    with pytest.raises(Failed, match=r"^Corrupt: .*manifest.json of v1 to have the SHA-256 f{64}"):
        engine.label({**job, "manifest_sha256": "f" * 64})
    damage(damaged)
    with pytest.raises(Failed, match=r"^Corrupt: .*model.tflite"):
        engine.label({**job, "out": str(tmp_path / "other")})
    assert not list(tmp_path.rglob("*.parquet"))
