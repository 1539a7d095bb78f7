"""The command doctor: a finding a line, each with its remedy."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import typer

from admin_cli.feedback_lines import damage_of
from admin_cli.findings import Finding
from admin_cli.options import DEFAULT_MODEL, DEFAULT_STORE, JsonOption, ModelOption, StoreOption, open_registry
from admin_cli.output import print_json, print_table, with_options
from admin_cli.replay import replay
from admin_cli.traffic import ask_model
from admin_cli.training_program import trainer
from classifier.errors import NotFound, PointerError, PreconditionFailed, Refused
from classifier.registry.rules import Registry
from classifier.settings import Settings
from classifier.storage.names import bucket_of
from classifier.storage.protocol import MUST_NOT_EXIST
from classifier.traffic.feedback import Feedback
from classifier.traffic.writer import STATS_FOLDER
from classifier.wording import plural

OLDEST_PYTHON = (3, 11)
CLOCK_MAY_DIFFER = 60.0
"""Seconds: tokens and signatures are refused beyond some minutes."""
MICROSECONDS = range(10**15, 10**16)
"""A generation of Cloud Storage is a time in microseconds; other numbers are an emulator's."""
REMEDIES = {
    "production": "admin_cli rollback",
    "canary": "admin_cli canary abort",
    "shadow": "admin_cli shadow stop",
    "before": "Publish it once more, with --again.",
}
"""Of a version that is damaged, by what it is."""


def doctor(
    url: Annotated[str | None, typer.Option("--url", help="Also look at this function.")] = None,
    account: Annotated[
        str | None,
        typer.Option("--as", metavar="ACCOUNT", help="Also try what the function's service account may do."),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    model: ModelOption = DEFAULT_MODEL,
    as_json: JsonOption = False,
) -> None:
    """Look at store, versions, function, settings and trainer.

    A finding a line, with what to do about it. It ends with exit code 5 where something is wrong. In the store it tries
    a compare-and-swap on an object of its own, which it deletes; run it as operators are allowed to.

    With --as it acts as the function's account besides, for which you need roles/iam.serviceAccountTokenCreator on it:
    that may read, and create statistics and corrections; it may neither move the pointer nor touch versions. Nothing
    that is tried changes anything, whatever is allowed.

    Example: admin_cli doctor --url https://REGION-PROJECT.cloudfunctions.net/predict
    """
    registry = open_registry(store, model)
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("python", _python),
        ("store", lambda: _store(registry)),
        ("pointer", lambda: _pointer(registry)),
        ("corrections", lambda: _corrections(registry)),
        ("settings", lambda: _settings(store, model)),
        ("trainer", _trainer),
    ]
    if url is not None:
        looks.append(("function", lambda: _function(registry, url)))
    else:
        looks.append(("function", _no_function))
    findings: list[Finding] = []
    if account is not None:
        from admin_cli.permissions import expect_account

        expect_account(registry, account)
        looks.append(("account", lambda: _account(registry, account, findings)))
    for what, look in looks:
        try:
            findings += look()
        except PointerError as error:
            findings.append(Finding(what, "wrong", str(error)))
    if as_json:
        print_json([each._asdict() for each in findings])
    else:
        print_table(
            ("", "", "found", "what to do"),
            [(each.verdict, each.what, each.found, _remedy(each)) for each in findings],
        )
    wrong = [each.what for each in findings if each.verdict == "wrong"]
    if wrong:
        raise Refused(f"Something is wrong: {', '.join(dict.fromkeys(wrong))}.")


def _python() -> Iterator[Finding]:
    fits = sys.version_info >= OLDEST_PYTHON
    needed = ".".join(map(str, OLDEST_PYTHON))
    yield Finding("python", "ok" if fits else "wrong", platform.python_version(), "" if fits else f"Install {needed}.")


def _store(registry: Registry) -> Iterator[Finding]:
    """Write, swap and delete an object of its own; two swaps of one generation must not both succeed."""
    name, store = f"{registry.model}/{STATS_FOLDER}/doctor-{uuid.uuid4().hex}", registry.store
    registry.expect_model()
    before = time.time()
    first = store.write(name, b"1", if_generation=MUST_NOT_EXIST)
    try:
        second = store.write(name, b"2", if_generation=first)
        try:
            store.write(name, b"3", if_generation=first)
        except PreconditionFailed:
            yield Finding("store", "ok", f"{store.url}: reads, writes, and lets one of two rivals win")
        else:
            yield Finding(
                "store",
                "wrong",
                f"{store.url} lets both of two rivals win",
                "Use Cloud Storage, or a disk of one machine.",
            )
        if bucket_of(store.url) and second in MICROSECONDS:
            ahead = before - second / 1e6
            fine = abs(ahead) <= CLOCK_MAY_DIFFER
            yield Finding(
                "clock",
                "ok" if fine else "wrong",
                f"{ahead:+.0f} s from the store's",
                "" if fine else "Set the clock (NTP).",
            )
    finally:
        store.delete(name)


def _account(registry: Registry, account: str, findings: list[Finding]) -> Iterator[Finding]:
    """Try the function's account, if the store keeps the preconditions with which nothing is changed."""
    from admin_cli.permissions import function_may

    if ("store", "ok") in {(each.what, each.verdict) for each in findings}:
        yield from function_may(registry, account)
    else:
        yield Finding("account", "look", f"{account} was not tried", "Mend what is wrong with the store first.")


def _pointer(registry: Registry) -> Iterator[Finding]:
    channels = registry.channels()
    if channels.production is None:
        remedy = "admin_cli promote v1" if registry.versions() else "admin_cli publish RUN"
        yield Finding("production", "wrong", "no version is promoted", remedy)
        return
    may_serve = [("production", channels.production), ("canary", channels.canary), ("shadow", channels.shadow)]
    may_serve += [("before", pointer) for pointer in channels.earlier()[:1]]
    for channel, pointer in may_serve:
        if pointer is None:
            continue
        try:
            files = registry.verify(pointer.version, replay=replay)
        except PointerError as error:
            yield Finding(channel, "wrong", str(error), REMEDIES[channel])
        else:
            yield Finding(
                channel, "ok", f"{pointer.version}: {plural(len(files), 'file')} as published, golden cases repeat"
            )
    if channels.canary:
        yield Finding("canary", "look", f"{channels.canary.percent:g} % since {channels.canary.step_since}")


def _corrections(registry: Registry) -> Iterator[Finding]:
    """Read all corrections and what was decided about them; where there are none, there is nothing to say."""
    found = Feedback(registry.store, registry.model).found()
    damaged = list(damage_of(found))
    for each in damaged:
        yield Finding("corrections", "wrong", each.problem, each.remedy)
    if found.cases and not damaged:
        yield Finding("corrections", "ok", f"{len(found.cases):,}, and what was decided about them, can be read")


def _settings(store: str, model: str) -> Iterator[Finding]:
    """Read the settings of the environment and, in a checkout, those that are deployed."""
    Settings.from_env({**os.environ, "MODEL_STORE": store, "MODEL_NAME": model})
    yield Finding("settings", "ok", "the environment's can be used")
    env = Path("functions/.env")
    if env.is_file():
        pairs = [line.partition("=") for line in env.read_text().splitlines() if "=" in line and line[:1] != "#"]
        deployed = Settings.from_env({name.strip(): value.strip() for name, _, value in pairs})
        same = (deployed.model_store, deployed.model_name) == (store, model)
        found = f"{env}: {deployed.model_store}, model {deployed.model_name}"
        yield Finding("deployed", "ok" if same else "look", found, "" if same else "Not what is looked at here.")
    hosting = Path("firebase.json")
    if hosting.is_file():
        try:
            json.loads(hosting.read_bytes())
        except ValueError as error:
            yield Finding("firebase", "wrong", f"{hosting}: {error}", "Mend it.")
        else:
            yield Finding("firebase", "ok", f"{hosting} can be read")


def _trainer() -> Iterator[Finding]:
    try:
        yield Finding("trainer", "ok", trainer())
    except NotFound as error:
        yield Finding("trainer", "look", str(error))
        return
    gpu = shutil.which("nvidia-smi")
    yield Finding("gpu", "ok" if gpu else "look", gpu or "none", "" if gpu else "Training goes on the CPU.")


def _remedy(finding: Finding) -> str:
    is_command = finding.remedy.startswith("admin_cli ")
    return with_options(f"`{finding.remedy}`" if is_command else finding.remedy)


def _no_function() -> Iterator[Finding]:
    yield Finding("function", "look", "not looked at", "Name it with --url.")


def _function(registry: Registry, url: str) -> Iterator[Finding]:
    serving = ask_model(url)
    if "error" in serving:
        yield Finding("function", "wrong", f"{url}: {serving['error']}", "Is it deployed, and may you call it?")
        return
    channels = registry.channels(newest=0)
    pointed = {each.version for each in (channels.production, channels.canary) if each}
    said = f"{serving['version']} ({serving['channel']}), answered in {serving['ms']} ms"
    if serving.get("fallback"):
        yield Finding("function", "wrong", f"{said}, in place of {serving['fallback']['pointed']}", "admin_cli verify")
    elif serving["version"] not in pointed:
        yield Finding("function", "look", said, "Wait POINTER_TTL seconds; another MODEL_STORE?")
    else:
        yield Finding("function", "ok", said)
