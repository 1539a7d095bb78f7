"""deploy/terraform, where no Terraform is: read, held against Google's schema, and compared with docs/deploy.md.

What only `terraform plan` could say is not known here: values that a project refuses, and the order of what is made.
"""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import hcl2
import pytest

from tests.support.iam import OPERATOR, Grant, grants_of_the_docs
from tests.support.processes import ROOT
from tests.support.terraform_schema import FILES, KEPT, META, blocks

PAGE = (ROOT / "docs/deploy.md").read_text()
SCHEMA = json.loads(KEPT.read_text())
RESOURCES = [(kind, *each) for kind in ("resource", "data") for each in blocks(kind)]
TEXTS = {
    path.name: re.sub(r"^\s*#.*$", "", path.read_text(), flags=re.MULTILINE) for path in sorted(FILES.glob("*.tf"))
}
VARIABLES = dict(blocks("variable"))
LOCALS = {name: value for (body,) in blocks("locals") for name, value in body.items()}
BUCKET, PROJECT, SERVING = "the-bucket", "my-pointer", "pointer-serving@my-pointer.iam.gserviceaccount.com"
PUBLISHERS, OPERATORS = "group:publishers@example.com", "group:operators@example.com"
GIVEN = {
    "var.bucket": BUCKET, "var.project": PROJECT, "var.model": "food", "var.region": "us-central1",
    "var.uploads": "the-uploads", "var.photos": "the-photos", "var.rate_limit": "60/minute",
    "var.github_repository": "my-organisation/pointer",
    "google_service_account.serving.email": SERVING, "google_storage_bucket.models.name": BUCKET,
    "data.google_storage_project_service_account.storage[0].email_address": "agent",
}  # fmt: skip
"""What a plan would know, for the comparison."""


def step(number: int | str) -> str:
    """A section of the page, its commands each in one line."""
    start = PAGE.index(f"\n## {number}")
    return re.sub(r"\\\n\s*", "", PAGE[start : PAGE.index("\n## ", start + 1)])


def said(value: Any) -> str:
    """A value as a plan would have it: its quotes gone, what it names in place."""
    text = str(value)
    text = text[1:-1] if text.startswith('"') else text
    while found := re.search(r"\$\{([\w.\[\]*]+)\}", text):
        name = found[1]
        inner = said(LOCALS[name.removeprefix("local.")]) if name.startswith("local.") else GIVEN[name]
        text = text[: found.start()] + inner + text[found.end() :]
    return text


def resource(type_: str, name: str) -> dict[str, Any]:
    (body,) = (each[3] for each in RESOURCES if each[1:3] == (type_, name))
    return dict(body)


@pytest.mark.parametrize(
    ("kind", "type_", "name", "body"), RESOURCES, ids=[f"{each[1]}.{each[2]}" for each in RESOURCES]
)
def test_its_arguments_are_those_of_the_provider(kind: str, type_: str, name: str, body: dict[str, Any]) -> None:
    provider = str(body.get("provider", "google")).strip("${}").partition(".")[0]
    _expect(SCHEMA[provider][kind][type_], body, f"{type_}.{name}")


def _expect(schema: dict[str, Any], body: dict[str, Any], where: str) -> None:
    given = {name for name in body if not name.startswith("__")}
    assert given - {*META, "lifecycle"} <= set(schema), where
    assert {name for name, each in schema.items() if each["required"]} <= given, where
    for name in given & set(schema):
        inner = schema[name].get("block")
        for each in body[name] if isinstance(body[name], list) and inner else ():
            _expect(inner, each, f"{where}.{name}")


def test_the_release_of_the_schema_is_one_that_the_files_allow() -> None:
    with (FILES / "versions.tf").open() as file:
        (body,) = hcl2.load(file)["terraform"]
    (providers,) = body["required_providers"]
    for name in ("google", "google-beta"):
        allowed = said(providers[name]["version"])
        assert allowed == f"~> {SCHEMA[name]['release'].partition('.')[0]}.0"


def test_what_is_named_exists_and_what_exists_is_named() -> None:
    text = "\n".join(TEXTS.values())
    assert set(re.findall(r"\bvar\.(\w+)", text)) == set(VARIABLES)
    assert set(re.findall(r"\blocal\.(\w+)", text)) == set(LOCALS)
    known = {(f"data.{type_}" if kind == "data" else type_, name) for kind, type_, name, _ in RESOURCES}
    named = set(re.findall(r"((?<![\w.\"])(?:data\.)?google_\w+)\.(\w+)", text))
    assert named <= known
    for kind, type_, name, body in RESOURCES:
        prefix = "data." if kind == "data" else ""
        used = re.findall(rf"(?<![\w.]){prefix}{type_}\.{name}(\[0\]|\[\*\]|\.|\b)", text)
        several = "count" in body or "for_each" in body
        for each in used:  # by number where there may be none; as a whole in depends_on and in loops
            assert each in (("[0]", "[*]", "") if several else (".", "")), (type_, name, each)
    for variable in VARIABLES.values():
        assert variable["description"] and variable["type"]


def test_each_value_is_of_a_loop() -> None:
    for _, type_, name, body in RESOURCES:
        assert ("each.value" in json.dumps(body)) == ("for_each" in body), (type_, name)


# Beside the page


def test_the_apis_are_those_of_the_page() -> None:
    (line,) = re.findall(r"gcloud services enable (.*)", step("1."))
    assert [said(each) for each in LOCALS["apis"]] == sorted(line.split())


def test_the_bucket_is_that_of_the_page() -> None:
    text, body = step("2."), resource("google_storage_bucket", "models")
    assert "--location=$REGION" in text and said(body["location"]) == "us-central1"
    assert "--uniform-bucket-level-access" in text and body["uniform_bucket_level_access"] is True
    assert "--public-access-prevention" in text and said(body["public_access_prevention"]) == "enforced"
    assert "--versioning" in text and body["versioning"][0]["enabled"] is True
    roles = re.findall(r"for role in ([\w ]+); do", text)[0].split()
    taken = resource("google_storage_bucket_iam_binding", "no_editors")
    assert re.findall(r"roles/storage\.(\w+)", str(taken["for_each"])) == roles
    assert [said(each) for each in taken["members"]] == [f"projectOwner:{PROJECT}"]


def granted() -> set[Grant]:
    """What the bucket's members may do."""
    loops = {"local.publishers": [PUBLISHERS], "local.operators": [OPERATORS],
             "setunion(local.publishers, local.operators)": [PUBLISHERS, OPERATORS]}  # fmt: skip
    found = set()
    for _, type_, _, body in RESOURCES:
        if type_ == "google_storage_bucket_iam_member" and said(body["bucket"]) == BUCKET:
            members = loops[str(body["for_each"]).strip("${}")] if "for_each" in body else [said(body["member"])]
            condition = said(body["condition"][0]["expression"]) if "condition" in body else ""
            found |= {Grant(each.removeprefix("serviceAccount:"), said(body["role"]), condition) for each in members}
    return found


def test_who_may_do_what_is_what_the_commands_of_the_page_grant() -> None:
    expected = {
        each._replace(member=each.member.replace(OPERATOR, OPERATORS)) for each in grants_of_the_docs(BUCKET, "models")
    }
    assert granted() == expected and len(expected) == 6
    creator = resource("google_service_account_iam_member", "operators_try")
    assert f"--role={said(creator['role'])}" in step("3.")


def test_uploads_get_the_roles_of_the_page() -> None:
    text = step("6.")
    roles = set(re.findall(r"roles/(?:pubsub|storage|eventarc|run)\.\w+", text))
    parts = [each for each in RESOURCES if "uploads ==" in json.dumps(each[3]) and each[0] == "resource"]
    assert set(re.findall(r"roles/[\w.]+", json.dumps([each[3] for each in parts]))) == roles
    condition = said(
        resource("google_storage_bucket_iam_member", "serving_labels_uploads")["condition"][0]["expression"]
    )
    (told,) = re.findall(r'--condition="title=labels,expression=(.*?)"', text, flags=re.DOTALL)
    assert " ".join(told.replace("$UPLOADS", "the-uploads").split()) == condition


def test_the_budget_is_that_of_the_page() -> None:
    (line,) = re.findall(r"gcloud billing budgets create .*", step("8."))
    options = [word.partition("=")[2] for word in shlex.split(line) if word.startswith("--threshold-rule")]
    body = resource("google_billing_budget", "pointer")
    ours = [
        f"percent={rule['threshold_percent']}" + (",basis=forecasted-spend" if "spend_basis" in rule else "")
        for rule in body["threshold_rules"]
    ]
    assert ours == options
    assert f"--budget-amount={VARIABLES['monthly_budget']['default']}{said(VARIABLES['currency']['default'])}" in line
    assert f"--display-name={said(body['display_name'])}" in line


def test_github_s_workflows_are_let_in_as_the_page_lets_them() -> None:
    text = step("10.").replace("$REPOSITORY", "my-organisation/pointer")
    body = resource("google_iam_workload_identity_pool_provider", "github")
    assert f"--issuer-uri={said(body['oidc'][0]['issuer_uri'])} " in text
    (mapping,) = re.findall(r"--attribute-mapping=(\S+)", text)
    assert {name.strip('"'): said(value) for name, value in body["attribute_mapping"].items()} == dict(
        each.split("=", 1) for each in mapping.split(",")
    )
    assert f'--attribute-condition="{said(body["attribute_condition"])}"' in text
    member = resource("google_service_account_iam_member", "github_is_rollout")
    assert f"--role={said(member['role'])}" in text
    assert "/attribute.repository/" in str(member["member"]) and "/attribute.repository/my-organisation/pointer" in text


def test_the_settings_are_those_of_the_page() -> None:
    (lines,) = re.findall(r"cat > functions/\.env <<END\n(.*?)\n\s*END\n", step("5."), flags=re.DOTALL)
    (value,) = (body["value"] for name, body in blocks("output") if name == "env")
    ours = re.findall(r"^\s+([A-Z_]+)=(.*)$", str(value), flags=re.MULTILINE)
    told = [tuple(line.strip().split("=", 1)) for line in lines.splitlines()]
    assert [name for name, _ in ours] == [name for name, _ in told]
    for (_, mine), (_, theirs) in zip(ours, told, strict=True):
        page = theirs.replace("$BUCKET", BUCKET).replace("$SERVING", SERVING).replace("$REGION", "us-central1")
        assert said(mine) == page
