"""The function's settings: defaults, every variable, and values that are refused by name."""

from __future__ import annotations

import dataclasses

import pytest

from classifier.errors import InvalidSetting
from classifier.settings import Settings


def test_defaults() -> None:
    settings = Settings.from_env({}, cpus=4)
    assert settings == Settings(interpreters=2, threads=2)
    assert (settings.model_store, settings.model_name, settings.access) == (".model-store", "food", "public")
    assert (settings.pointer_ttl, settings.wait, settings.photo_store) == (30.0, 10.0, "")
    assert (settings.max_image_bytes, settings.max_image_pixels) == (20 * 2**20, 50_000_000)
    assert settings.max_image_memory == 200 * 2**20


def test_every_variable() -> None:
    settings = Settings.from_env(
        {
            "MODEL_STORE": "gs://bucket/prefix",
            "MODEL_NAME": "dogs",
            "POINTER_TTL": "0.5",
            "ACCESS": "public",
            "CORS_ORIGINS": "https://a.example, http://localhost:5000",
            "MAX_IMAGE_BYTES": "1000",
            "MAX_IMAGE_PIXELS": "2000",
            "MAX_IMAGE_MEMORY": "3000",
            "INTERPRETERS": "3",
            "THREADS_PER_INTERPRETER": "5",
            "INTERPRETER_WAIT": "2",
            "PHOTO_STORE": "photos",
        },
        cpus=4,
    )
    assert settings == Settings(
        model_store="gs://bucket/prefix",
        model_name="dogs",
        pointer_ttl=0.5,
        cors_origins=("https://a.example", "http://localhost:5000"),
        max_image_bytes=1000,
        max_image_pixels=2000,
        max_image_memory=3000,
        interpreters=3,
        threads=5,
        wait=2.0,
        photo_store="photos",
    )


def test_empty_is_the_default_but_for_origins() -> None:
    names = ("MODEL_STORE", "MODEL_NAME", "POINTER_TTL", "ACCESS", "INTERPRETERS", "PHOTO_STORE")
    assert Settings.from_env(dict.fromkeys(names, ""), cpus=1) == Settings.from_env({}, cpus=1)
    assert Settings.from_env({"CORS_ORIGINS": ""}).cors_origins == ()


@pytest.mark.parametrize(
    ("cpus", "interpreters", "threads", "expected"),
    [(1, "", "", (1, 1)), (2, "", "", (1, 2)), (8, "", "", (4, 2)), (4, "4", "", (4, 1)), (2, "8", "", (8, 1))],
)
def test_cpus_are_shared_out(cpus: int, interpreters: str, threads: str, expected: tuple[int, int]) -> None:
    env = {"INTERPRETERS": interpreters, "THREADS_PER_INTERPRETER": threads}
    settings = Settings.from_env(env, cpus=cpus)
    assert (settings.interpreters, settings.threads) == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MODEL_NAME", "../food"),
        ("MODEL_NAME", "a/b"),
        ("MODEL_NAME", "x" * 101),
        ("MODEL_STORE", "s3://bucket"),
        ("MODEL_STORE", "gs://"),
        ("MODEL_STORE", "gs://Bucket/models"),
        ("MODEL_STORE", "gs://bucket/../models"),
        ("PHOTO_STORE", "https://a.example/photos"),
        ("MAX_IMAGE_MEMORY", "0"),
        ("MAX_IMAGE_MEMORY", "200MB"),
        ("POINTER_TTL", "soon"),
        ("POINTER_TTL", "-1"),
        ("POINTER_TTL", "nan"),
        ("INTERPRETER_WAIT", "inf"),
        ("ACCESS", "private"),
        ("ACCESS", "PUBLIC"),
        ("CORS_ORIGINS", "*, https://a.example"),
        ("CORS_ORIGINS", "https://*.example.com"),
        ("CORS_ORIGINS", "example.com"),
        ("CORS_ORIGINS", "https://a.example/path"),
        ("MAX_IMAGE_BYTES", "0"),
        ("MAX_IMAGE_BYTES", "20MB"),
        ("MAX_IMAGE_PIXELS", "1e6"),
        ("INTERPRETERS", "-2"),
        ("THREADS_PER_INTERPRETER", "two"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^Expected {name} to be .+; received "):
        Settings.from_env({name: value})


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().wait = 1.0  # type: ignore[misc]
