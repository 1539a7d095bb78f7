"""What `retrain` hands to the trainer and what it refuses; tests/project/test_loop.py runs it with the real one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from admin_cli import training_program
from classifier.storage.local import LocalStore
from classifier.traffic.corrections import Correction
from classifier.traffic.feedback import Feedback
from tests.support.bundles import colour_photo
from tests.support.commands import PROGRAM, Cli, cli_fixture, environment_of  # noqa: F401  # fixture
from tests.support.retraining import RECIPE, asked, described, option, stand_in_fixture  # noqa: F401  # fixture
from tests.support.serving import MODEL


@pytest.fixture(name="served")
def served_fixture(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> Path:
    """v1 serves; its photos are a folder here."""
    cli("publish", described(tiny_bundle)).well()
    cli("promote", "v1").well()
    (tmp_path / "photos/red").mkdir(parents=True)
    (tmp_path / "photos/red/1.png").write_bytes(b"1")
    return tmp_path / "photos"


def test_production_s_recipe_is_handed_to_the_trainer(cli: Cli, served: Path, stand_in: Any, tmp_path: Path) -> None:
    said = cli(
        "retrain",
        "--from",
        "production",
        "--data-dir",
        served,
        "--set",
        "head_epochs=9",
        "--set",
        "precision=mixed_bfloat16",
    ).well()
    assert "published v2" in said and "next: `admin_cli promote v2`" in said
    (arguments,) = asked(tmp_path)
    assert (arguments[0], option(arguments, "--parent")) == ("train", "v1")
    config = json.loads(Path(option(arguments, "--config")).read_text())
    assert config["data"]["data_dir"] == str(served)
    assert config["schedule"]["head_epochs"] == 9
    assert config["compute"]["precision"] == "mixed_bfloat16"
    parent = Path(config["network"]["start"])
    assert option(arguments, "--since") == str(parent)
    assert {path.name for path in parent.iterdir()} == {"manifest.json", "model.keras", "report"}
    assert cli("history", "--json").json()[0]["to"] == "v1"


def test_a_network_of_ones_own_is_taken_from_the_version(
    cli: Cli, tiny_bundle: Path, stand_in: Any, tmp_path: Path
) -> None:
    network = {"architecture": "own", "weights": "own", "backbone": "mine.keras", "backbone_scaling": "unit"}
    cli("publish", described(tiny_bundle, training=RECIPE | {"network": network})).well()
    cli("promote", "v1").well()
    (tmp_path / "photos/red").mkdir(parents=True)
    (tmp_path / "photos/red/1.png").write_bytes(b"1")
    refused = cli("retrain", "--data-dir", tmp_path / "photos")
    assert refused.code == 3 and "--set backbone=FILE" in refused.err
    cli("retrain", "--data-dir", tmp_path / "photos", "--from", "production").well()
    (arguments,) = asked(tmp_path)
    config = json.loads(Path(option(arguments, "--config")).read_text())
    taken = Path(config["network"]["backbone"])
    assert taken.is_file() and taken == Path(config["network"]["start"]) / "model.keras"
    assert (config["network"]["weights"], config["network"]["backbone_scaling"]) == ("own", "unit")


def test_the_same_command_goes_on_and_other_photos_are_another_run(
    cli: Cli, served: Path, stand_in: Any, tmp_path: Path
) -> None:
    stand_in(code=6)
    assert cli("retrain", "--data-dir", served).code == 6
    stand_in()
    assert "published v2" in cli("retrain", "--data-dir", served).well()
    assert "v2 was published before" in cli("retrain", "--data-dir", served).well()
    runs = {option(each, "--run") for each in asked(tmp_path)}
    assert len(runs) == 1 and len(asked(tmp_path)) == 2
    (served / "red/2.png").write_bytes(b"2")
    cli("retrain", "--data-dir", served).well()
    assert len({option(each, "--run") for each in asked(tmp_path)}) == 2


def test_the_gate_decides_about_promotion_and_canary(
    cli: Cli, served: Path, stand_in: Any, confused_bundle: Path
) -> None:
    stand_in(bundle=confused_bundle)
    refused = cli("retrain", "--data-dir", served, "--promote")
    assert refused.code == 5
    assert "v2 is not promoted" in refused.err
    held = cli("retrain", "--data-dir", served, "--canary", "10")
    assert held.code == 5
    assert "did not become a canary" in held.err
    assert "`admin_cli canary start v2 --percent 10`" in held.err
    reason = next(line for line in held.out.splitlines() if line.startswith("- "))
    assert (held.out + held.err).count(reason.removeprefix("- ")[:30]) == 1  # every reason is said once
    assert [each["to"] for each in cli("history", "--json").json()] == ["v1"]
    assert "or --canary; received both" in cli("retrain", "--promote", "--canary", "5").failed(2)


def test_a_percentage_that_cannot_be_is_told_before_it_trains(
    cli: Cli, served: Path, stand_in: Any, tmp_path: Path
) -> None:
    assert "up to 100; received 500" in cli("retrain", "--data-dir", served, "--canary", "500").failed(2)
    assert asked(tmp_path) == []


def test_labels_that_the_gate_refuses_are_told_to_the_trainer(
    cli: Cli, served: Path, stand_in: Any, tmp_path: Path
) -> None:
    cli("gate", "set", "allow_added_labels=true").well()
    cli("retrain", "--data-dir", served, "--force", "--canary", "10")
    (arguments,) = asked(tmp_path)
    gate = json.loads(Path(option(arguments, "--gate")).read_text())
    assert (gate["version"], gate["labels"]) == ("v1", ["blue", "green", "grey", "red"])
    assert gate["gate"]["allow_added_labels"] is True
    cli("retrain", "--data-dir", served, "--run", "other", "--force").well()
    assert "--gate" not in asked(tmp_path)[-1]  # where nothing is to take production's place


def test_a_notice_goes_with_its_photos(cli: Cli, tiny_bundle: Path, stand_in: Any, tmp_path: Path) -> None:
    """What is trained on other photos than drawings is no demonstration."""
    cli("publish", described(tiny_bundle, notice="A demonstration.")).well()
    cli("promote", "v1").well()
    for name in ("photos", "real"):
        (tmp_path / name).mkdir()
    cli("retrain", "--data-dir", tmp_path / "photos", "--force").well()  # the recipe's own folder
    assert option(asked(tmp_path)[-1], "--notice") == "A demonstration."
    said = cli("retrain", "--data-dir", tmp_path / "real", "--force").well()
    assert "--notice" not in asked(tmp_path)[-1]
    assert "whose notice is left out: A demonstration." in " ".join(said.split())


SLOW = """#!{python}
import signal, sys, time
def end(*_):
    time.sleep(1)
    open("ended", "w").close()
    sys.exit(130)
signal.signal(signal.SIGINT, end)
open("begun", "w").close()
time.sleep(60)
"""
FROM_HERE = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""What runs in the background of a shell ignores Ctrl-C, and its children inherit that."""


def test_a_ctrl_c_lets_the_trainer_end_by_itself(cli: Cli, served: Path, tmp_path: Path) -> None:
    (tmp_path / "trainer").write_text(SLOW.format(python=sys.executable))  # beside the program, which is found first
    (tmp_path / "trainer").chmod(0o755)
    with subprocess.Popen(
        [sys.executable, "-c", FROM_HERE + PROGRAM, "retrain", "--data-dir", served, "--force"],
        cwd=tmp_path,
        env=environment_of(MODEL_STORE=tmp_path / "store"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            while not (tmp_path / "begun").exists():
                assert process.poll() is None
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)  # as a terminal does
            said = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert (process.returncode, (tmp_path / "ended").exists()) == (130, True)
    assert said == "admin_cli: interrupted; the same command goes on, or begins anew.\n"


def test_afresh_has_no_start(cli: Cli, served: Path, stand_in: Any, tmp_path: Path) -> None:
    cli("retrain", "--data-dir", served, "--force").well()
    (arguments,) = asked(tmp_path)
    assert "--unchanged" in arguments
    assert json.loads(Path(option(arguments, "--config")).read_text())["network"]["start"] is None


def test_a_teacher_that_was_published_teaches_again_and_another_one_is_looked_for(
    cli: Cli, served: Path, tiny_bundle_original: Path, stand_in: Any, tmp_path: Path
) -> None:
    def publish(name: str, schedule: dict[str, Any], **training: Any) -> Path:
        bundle = tmp_path / "runs" / name / "bundle"
        shutil.copytree(tiny_bundle_original, bundle)
        recipe = {**RECIPE, "schedule": {**RECIPE["schedule"], **schedule}, **training}
        recipe["data"] = {**RECIPE["data"], "unlabelled": None, **training.get("data", {})}
        described(bundle, training=recipe, created_at=f"2026-01-0{len(name)}T00:00:00Z")
        return bundle

    taught = {"model": "pets", "version": "v1", "sha256": "0" * 64}
    cli("publish", publish("by", {"teacher": "v1"}, teacher=taught)).well()
    cli("promote", "v2", "--force", "--reason", "a test").well()
    cli("retrain", "--data-dir", served).well()
    config = json.loads(Path(option(asked(tmp_path)[-1], "--config")).read_text())
    assert config["schedule"]["teacher"] == "v1"
    assert json.loads((tmp_path / "store.json").read_text())[1] == "pets"
    cli("retrain", "--data-dir", served, "--set", "teacher=v2").well()
    assert json.loads((tmp_path / "store.json").read_text())[1] != "pets"

    # A folder's place is that of the run which made the version: a manifest has its name alone.
    bundle = publish("one", {"teacher": "large"}, data={"unlabelled": "bucket"})
    version = cli("publish", bundle).well().split()[1]
    cli("promote", version, "--force", "--reason", "a test").well()
    assert "tells where its teacher is" in cli("retrain", "--data-dir", served).failed(3)
    (bundle.parent / "config.json").write_text(
        json.dumps({"data": {"unlabelled": "all/bucket"}, "network": {}, "schedule": {"teacher": "runs/large"}})
    )
    cli("retrain", "--data-dir", served).well()
    config = json.loads(Path(option(asked(tmp_path)[-1], "--config")).read_text())
    assert (config["schedule"]["teacher"], config["data"]["unlabelled"]) == ("runs/large", "all/bucket")
    cli("retrain", "--data-dir", served, "--set", "teacher=null", "--set", "unlabelled=null").well()
    config = json.loads(Path(option(asked(tmp_path)[-1], "--config")).read_text())
    assert (config["schedule"]["teacher"], config["data"]["unlabelled"]) == (None, None)


def test_decisions_over_an_audit_are_repeated(cli: Cli, tiny_bundle: Path, stand_in: Any, tmp_path: Path) -> None:
    table = "image_path,label,suggested_label,decision,reason\nred/1.png,red,blue,relabel,\n"
    (tiny_bundle / "report").mkdir(exist_ok=True)
    (tiny_bundle / "report/decisions.csv").write_text(table)
    cli("publish", described(tiny_bundle)).well()
    cli("promote", "v1").well()
    cli("retrain", "--data-dir", tmp_path, "--force").well()
    (arguments,) = asked(tmp_path)
    config = json.loads(Path(option(arguments, "--config")).read_text())
    assert Path(config["data"]["decisions"]).read_text() == table
    assert config["data"]["corrections"] is None


def test_a_decision_that_cannot_be_read_is_passed_over_and_named(
    cli: Cli, served: Path, stand_in: Any, tmp_path: Path
) -> None:
    desk = Feedback(LocalStore(tmp_path / "store"), MODEL)
    for colour in ("green", "red"):
        photo = colour_photo(colour)
        correction = Correction.make(colour, photo=photo)
        desk.add(correction, photo)
        cli("feedback", "accept", correction.id).well()
    (path,) = tmp_path.rglob(f"{correction.id}.decision")
    path.write_text("{")
    done = cli("retrain", "--data-dir", served, "--feedback")
    assert done.code == 0 and "for the training: 1 accepted correction\n" in done.out
    assert path.name in done.err and f"`admin_cli feedback reject {correction.id[:8]}`" in done.err
    config = json.loads(Path(option(asked(tmp_path)[-1], "--config")).read_text())
    assert correction.id not in Path(config["data"]["corrections"]).read_text()


def test_what_is_missing_is_told_with_the_remedy(cli: Cli, served: Path, stand_in: Any, tmp_path: Path) -> None:
    assert "Name them with --data-dir" in cli("retrain").failed(3)
    assert "with one of" in cli("retrain", "--data-dir", served, "--set", "epochs_of_head=3").failed(2)
    assert "there are none" in cli("retrain", "--data-dir", served, "--feedback").failed(3)
    assert "received 'v9'" in cli("retrain", "--from", "v9").failed(3)
    assert asked(tmp_path) == []


def test_a_version_without_a_recipe_is_told(cli: Cli, tiny_bundle: Path, stand_in: Any) -> None:
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1").well()
    assert "to tell how it was trained" in cli("retrain", "--data-dir", ".").failed(3)


def test_the_trainer_is_found_beside_this_program_or_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Path(training_program.trainer()).name == "trainer"
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "admin_cli")])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Exception, match="pip install"):
        training_program.trainer()


def test_a_trainer_that_was_killed_is_told(
    cli: Cli, served: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    killed = tmp_path / "trainer"
    killed.write_text("#!/bin/sh\nkill -9 $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(training_program, "trainer", killed.__str__)
    done = cli("retrain", "--data-dir", served)
    assert done.code == 6
    assert "it was killed by SIGKILL" in done.err and "give the same command again" in done.err
