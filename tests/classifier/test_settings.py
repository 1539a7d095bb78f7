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
    assert (settings.max_image_bytes, settings.max_image_pixels) == (16 * 2**20, 50_000_000)
    assert settings.max_image_memory == 200 * 2**20


def test_every_variable() -> None:
    settings = Settings.from_env(
        {
            "MODEL_STORE": "gs://bucket/prefix",
            "MODEL_NAME": "dogs",
            "POINTER_TTL": "0.5",
            "ACCESS": "auth+app-check",
            "ACCESS_CLAIM": "role=editor",
            "ACCESS_CHECK_REVOKED": "1",
            "GOOGLE_CLOUD_PROJECT": "demo-pointer",
            "RATE_LIMIT": "5/second, 1000/day",
            "RATE_LIMIT_STORE": "redis://:secret@localhost:6379/0",
            "TRUSTED_PROXIES": "2",
            "CORS_ORIGINS": "https://a.example, http://localhost:5000",
            "MAX_IMAGE_BYTES": "1000",
            "MAX_IMAGE_PIXELS": "2000",
            "MAX_IMAGE_MEMORY": "3000",
            "MAX_PHOTOS": "4",
            "RESULT_CACHE_BYTES": "5000",
            "REQUEST_WITHIN": "25.5",
            "REQUEST_LEAST_RATE": "1000",
            "INTERPRETERS": "3",
            "THREADS_PER_INTERPRETER": "5",
            "INTERPRETER_WAIT": "2",
            "MAX_WAITING": "7",
            "PHOTO_STORE": "photos",
            "UPLOAD_BUCKET": "photos-of-ours",
            "UPLOAD_PREFIX": "inbox/new/",
            "FUNCTION_MEMORY": "2048",
            "FUNCTION_LOCATION": "europe-west1",
            "FUNCTION_ACCOUNT": "pointer-serving@",
            "FUNCTION_SECRETS": "RATE_LIMIT_STORE",
        },
        cpus=4,
    )
    assert settings == Settings(
        model_store="gs://bucket/prefix",
        model_name="dogs",
        pointer_ttl=0.5,
        access="auth+app-check",
        access_claim="role=editor",
        access_check_revoked=True,
        project="demo-pointer",
        rate_limit="5/second,1000/day",
        rate_limit_store="redis://:secret@localhost:6379/0",
        trusted_proxies=2,
        cors_origins=("https://a.example", "http://localhost:5000"),
        max_image_bytes=1000,
        max_image_pixels=2000,
        max_image_memory=3000,
        max_photos=4,
        result_cache_bytes=5000,
        request_within=25.5,
        request_least_rate=1000,
        interpreters=3,
        threads=5,
        wait=2.0,
        max_waiting=7,
        photo_store="photos",
        upload_bucket="photos-of-ours",
        upload_prefix="inbox/new/",
        function_memory=2048,
        function_location="europe-west1",
        function_account="pointer-serving@",
        function_secrets=("RATE_LIMIT_STORE",),
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
        ("ON_DEVICE", "yes"),
        ("MAX_IMAGE_MEMORY", "0"),
        ("MAX_PHOTOS", "0"),
        ("RESULT_CACHE_BYTES", "-1"),
        ("RESULT_CACHE_BYTES", "8MB"),
        ("MAX_IMAGE_MEMORY", "200MB"),
        ("POINTER_TTL", "soon"),
        ("POINTER_TTL", "-1"),
        ("POINTER_TTL", "nan"),
        ("REQUEST_WITHIN", "0.5"),
        ("REQUEST_LEAST_RATE", "0"),
        ("INTERPRETER_WAIT", "inf"),
        ("ACCESS", "private"),
        ("ACCESS", "PUBLIC"),
        ("ACCESS", "app-check+auth"),
        ("ACCESS_CLAIM", "member"),
        ("ACCESS_CHECK_REVOKED", "1"),
        ("ACCESS_CHECK_REVOKED", "yes"),
        ("RATE_LIMIT", "60"),
        ("RATE_LIMIT", "0/minute"),
        ("RATE_LIMIT", "60/fortnight"),
        ("RATE_LIMIT", "60/minute;"),
        ("RATE_LIMIT_STORE", "localhost:6379"),
        ("RATE_LIMIT_STORE", "memcached://localhost"),
        ("RATE_LIMIT_STORE", "redis://"),
        ("TRUSTED_PROXIES", "-1"),
        ("CORS_ORIGINS", "*, https://a.example"),
        ("CORS_ORIGINS", "https://*.example.com"),
        ("CORS_ORIGINS", "example.com"),
        ("CORS_ORIGINS", "https://a.example/path"),
        ("MAX_IMAGE_BYTES", "0"),
        ("MAX_IMAGE_BYTES", "20MB"),
        ("MAX_IMAGE_PIXELS", "1e6"),
        ("INTERPRETERS", "-2"),
        ("THREADS_PER_INTERPRETER", "two"),
        ("UPLOAD_BUCKET", "gs://bucket"),
        ("UPLOAD_BUCKET", "bucket/uploads"),
        ("UPLOAD_PREFIX", "uploads"),
        ("UPLOAD_PREFIX", "/"),
        ("UPLOAD_PREFIX", "../"),
        ("FUNCTION_MEMORY", "256"),
        ("FUNCTION_MEMORY", "512MB"),
        ("FUNCTION_LOCATION", "Frankfurt"),
        ("FUNCTION_ACCOUNT", "ana@example.com"),
        ("FUNCTION_SECRETS", "MODEL_STORE"),
    ],
)
def test_a_bad_value_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^Expected {name} to be .+; received "):
        Settings.from_env({name: value})


@pytest.mark.parametrize(
    "env",
    [
        {"GOOGLE_CLOUD_PROJECT": "demo-x"},
        {"GCLOUD_PROJECT": "demo-x"},
        {"FIREBASE_CONFIG": '{"projectId": "demo-x", "storageBucket": "b"}'},
        {"GOOGLE_CLOUD_PROJECT": "demo-x", "GCLOUD_PROJECT": "demo-y", "FIREBASE_CONFIG": '{"projectId": "demo-z"}'},
    ],
)
def test_the_project_is_what_the_platform_says(env: dict[str, str]) -> None:
    assert Settings.from_env({"ACCESS": "auth", **env}).project == "demo-x"


@pytest.mark.parametrize("access", ["auth", "app-check", "auth+app-check"])
@pytest.mark.parametrize("env", [{}, {"FIREBASE_CONFIG": "config.json"}, {"FIREBASE_CONFIG": "[]"}])
def test_tokens_need_a_project(access: str, env: dict[str, str]) -> None:
    with pytest.raises(InvalidSetting, match=r"^Expected GOOGLE_CLOUD_PROJECT to be .+; received 'nothing'"):
        Settings.from_env({"ACCESS": access, **env})


def test_the_auth_emulator_is_refused_outside_the_emulators() -> None:
    env = {"ACCESS": "auth", "GCLOUD_PROJECT": "demo-x", "FIREBASE_AUTH_EMULATOR_HOST": "127.0.0.1:9099"}
    with pytest.raises(InvalidSetting, match=r"^Expected FIREBASE_AUTH_EMULATOR_HOST to be empty"):
        Settings.from_env(env)
    with pytest.raises(InvalidSetting):
        Settings.from_env({**env, "ACCESS": "auth+app-check", "FUNCTIONS_EMULATOR": "false"})
    assert Settings.from_env({**env, "FUNCTIONS_EMULATOR": "true"}).access == "auth"
    assert Settings.from_env({**env, "ACCESS": "public"}).access == "public"


def test_rules_about_users_need_users() -> None:
    env = {"ACCESS": "app-check", "GCLOUD_PROJECT": "demo-x", "ACCESS_CLAIM": "member"}
    with pytest.raises(InvalidSetting, match=r"^Expected ACCESS_CLAIM to be empty without users"):
        Settings.from_env(env)
    assert Settings.from_env({**env, "ACCESS": "auth"}).access_claim == "member"


def test_a_password_is_not_told() -> None:
    with pytest.raises(InvalidSetting) as told:
        Settings.from_env({"RATE_LIMIT_STORE": "redis:/:secret@localhost"})
    assert "secret" not in str(told.value)


def test_uploads_go_to_the_projects_bucket_unless_another_is_set() -> None:
    config = {"FIREBASE_CONFIG": '{"storageBucket": "demo-x.firebasestorage.app"}'}
    assert Settings.from_env(config).upload_bucket == "demo-x.firebasestorage.app"
    assert Settings.from_env({**config, "UPLOAD_BUCKET": "ours"}).upload_bucket == "ours"
    for config in ("", "config.json", "[]", '{"storageBucket": null}'):
        assert Settings.from_env({"FIREBASE_CONFIG": config}).upload_bucket == ""


def test_googles_front_end_is_trusted_where_it_is() -> None:
    assert Settings.from_env({}).trusted_proxies == 0
    assert Settings.from_env({"K_SERVICE": "predict"}).trusted_proxies == 1
    assert Settings.from_env({"K_SERVICE": "predict", "FUNCTIONS_EMULATOR": "true"}).trusted_proxies == 0
    assert Settings.from_env({"K_SERVICE": "predict", "TRUSTED_PROXIES": "2"}).trusted_proxies == 2


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().wait = 1.0  # type: ignore[misc]
