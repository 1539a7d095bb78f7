"""MODEL_RULES: settings of one model alone, and what stops the start."""

from __future__ import annotations

import pytest

from classifier.errors import InvalidSetting
from classifier.settings import Settings


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ({"MODEL_NAMES": "a b"}, "Expected MODEL_NAMES to be a model's name"),
        ({"MODEL_RULES": "{"}, "Expected MODEL_RULES to be JSON such as"),
        ({"MODEL_RULES": '{"food": {"THREADS": "1"}}'}, "with ACCESS, ACCESS_CLAIM, RATE_LIMIT, FEEDBACK_LIMIT"),
        ({"MODEL_RULES": '{"food": {"ACCESS": 1}}'}, "Expected MODEL_RULES to be JSON such as"),
        (
            {"MODEL_RULES": '{"dogs": {"ACCESS": "auth"}}'},
            "Expected one of food; received 'dogs'. Add it to MODEL_NAMES",
        ),
        (
            {"MODEL_NAMES": "dogs", "MODEL_RULES": '{"dogs": {"RATE_LIMIT": "often"}}'},
            "MODEL_RULES of 'dogs': Expected",
        ),
        ({"MODEL_NAMES": "dogs", "MODEL_RULES": '{"dogs": {"ACCESS": "auth"}}'}, "GOOGLE_CLOUD_PROJECT"),
        (
            {
                "MODEL_NAMES": "dogs",
                "MODEL_RULES": '{"dogs": {"ACCESS": "auth"}}',
                "GOOGLE_CLOUD_PROJECT": "demo-pointer",
                "FIREBASE_AUTH_EMULATOR_HOST": "localhost:9099",
            },
            "tokens that nobody signed",
        ),
    ],
)
def test_rules_that_cannot_be_used_stop_the_start(env: dict[str, str], message: str) -> None:
    with pytest.raises(InvalidSetting, match=message):
        Settings.from_env(env, cpus=1)


def test_a_claim_is_for_models_with_users_alone() -> None:
    env = {
        "ACCESS": "auth",
        "ACCESS_CLAIM": "member",
        "GOOGLE_CLOUD_PROJECT": "demo-pointer",
        "MODEL_NAMES": "dogs, cats,dogs",
        "MODEL_RULES": '{"dogs": {"ACCESS": "public"}}',
    }
    settings = Settings.from_env(env, cpus=1)
    assert settings.models == ("food", "dogs", "cats")
    assert (settings.of_model("dogs").access, settings.of_model("dogs").access_claim) == ("public", "")
    assert (settings.of_model("cats").access, settings.of_model("cats").access_claim) == ("auth", "member")


def test_a_rule_that_is_there_twice_or_empty_opens_nothing() -> None:
    for rules in ('{"dogs": {"ACCESS": "auth"}, "dogs": {"RATE_LIMIT": "9/minute"}}', '{"dogs": {"ACCESS": ""}}'):
        env = {"MODEL_NAMES": "dogs", "MODEL_RULES": rules, "GOOGLE_CLOUD_PROJECT": "demo-pointer"}
        with pytest.raises(InvalidSetting, match="Expected MODEL_RULES to be JSON such as"):
            Settings.from_env(env, cpus=1)


def test_revoked_users_can_be_turned_away_where_one_model_alone_has_users() -> None:
    env = {
        "ACCESS_CHECK_REVOKED": "1",
        "ACCESS_CLAIM": "member",
        "GOOGLE_CLOUD_PROJECT": "demo-pointer",
        "MODEL_NAMES": "dogs",
        "MODEL_RULES": '{"dogs": {"ACCESS": "auth"}}',
    }
    settings = Settings.from_env(env, cpus=1)
    dogs, food = settings.of_model("dogs"), settings.of_model("food")
    assert (dogs.access, dogs.access_check_revoked, dogs.access_claim) == ("auth", True, "member")
    assert (food.access, food.access_check_revoked, food.access_claim) == ("public", False, "")
    for rules in ('{"dogs": {"ACCESS": "app-check"}}', '{"dogs": {"RATE_LIMIT": "9/minute"}}'):
        with pytest.raises(InvalidSetting, match="Expected ACCESS_CLAIM to be empty without users"):
            Settings.from_env({**env, "MODEL_RULES": rules}, cpus=1)
