"""Looking through corrections: their order, decisions, the table for a training, and forgetting them."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from classifier.errors import Conflict, InvalidManifest, NotFound
from classifier.storage.local import LocalStore
from classifier.storage.protocol import ObjectStore
from classifier.traffic.corrections import Correction, Decision, Seen
from classifier.traffic.feedback import Feedback
from tests.support.bundles import colour_photo
from tests.support.commands import Cli, Done, call, cli_fixture  # noqa: F401  # fixtures
from tests.support.serving import MODEL

GREEN, RED = colour_photo("green"), colour_photo("red")


@pytest.fixture(name="desk")
def desk_fixture(cli: Cli, tiny_bundle: Path, tmp_path: Path) -> Feedback:
    """Corrections of each kind, of a model that knows four colours."""
    cli("publish", tiny_bundle, "--again").well()
    cli("promote", "v1").well()
    desk = Feedback(LocalStore(tmp_path / "store"), MODEL)
    add(desk, "green", Seen("v1", "production", "blue", 0.95, "ok"), GREEN)
    add(desk, "purple", Seen("v1", "canary", "blue", 0.3, "unknown"), RED)
    add(desk, None, Seen("v1", "production", "grey", 0.6, "ok"))
    add(desk, "red", Seen("v1", "production", "red", 0.9, "ok"))
    return desk


def add(desk: Feedback, label: str | None, seen: Seen, photo: bytes = b"") -> str:
    request_id = f"r-{label}"
    correction = Correction.make(label, request_id=request_id, photo=photo, seen=seen)
    assert desk.add(correction, photo)
    return correction.id


def test_what_helps_most_comes_first_and_labels_that_are_new_are_counted(cli: Cli, desk: Feedback) -> None:
    rows = cli("feedback", "list", "--json").json()
    assert [each["label"] for each in rows] == ["purple", "green", None, "red"]
    assert rows[0]["reasons"] == ["wrong", "unsure", "canary", "new label"]
    assert rows[1]["reasons"] == ["wrong and sure"]
    assert "no photo" in rows[2]["reasons"]
    said = cli("feedback", "list").well()
    assert max(map(len, said.splitlines())) <= 80
    last = said.strip().splitlines()[-1].split()
    assert last == ["purple", "1"]
    assert "no accepted correction" in cli("feedback", "list", "--status", "accepted").well()
    assert "one of pending" in cli("feedback", "list", "--status", "new").failed(2)
    assert "the first 1 of 4" in cli("feedback", "list", "--limit", "1").well()


def test_one_is_shown_with_its_photo_and_both_overlays(cli: Cli, desk: Feedback, tmp_path: Path) -> None:
    rows = cli("feedback", "list", "--json").json()
    green = next(each["id"] for each in rows if each["label"] == "green")
    said = cli("feedback", "show", green[:6], "--html", tmp_path / "photo.html").well()
    assert "blue 95.0%" in said
    page = (tmp_path / "photo.html").read_text()
    assert page.count("<img") == 2  # the photo, and the label that production gives, which is the user's
    assert "default-src &#39;none&#39;" in page
    none = next(each["id"] for each in rows if each["label"] is None)
    assert "its user gave none" in cli("feedback", "show", none, "--html", tmp_path / "x.html").failed(3)
    assert "none of the labels" in cli("feedback", "show", none).well()
    assert "begins" in cli("feedback", "show", "zz").failed(3)
    assert "begins" in cli("feedback", "show", "ffffffff").failed(3)


def test_accepted_ones_become_a_table_that_a_training_takes(cli: Cli, desk: Feedback, tmp_path: Path) -> None:
    rows = {each["label"]: each["id"] for each in cli("feedback", "list", "--json").json()}
    assert cli("feedback", "accept", rows["green"]).well() == f"accepted {rows['green'][:8]}: green\n"
    cli("feedback", "accept", rows["purple"][:8], "--label", " red ", "--reason", "a dark red").well()
    assert cli("feedback", "accept", rows["purple"]).well() == f"accepted {rows['purple'][:8]}: red\n"
    said = cli("feedback", "accept", rows["red"]).well()
    assert f"no training can learn from {rows['red'][:8]}: there is no photo, or no label" in said
    cli("feedback", "reject", rows[None], "--reason", "it is grey").well()
    decided = {each["id"]: each for each in cli("feedback", "list", "--status", "all", "--json").json()}
    assert decided[rows["purple"]]["decision"]["who"] == "kim"
    assert (decided[rows["purple"]]["label"], decided[rows["purple"]]["status"]) == ("red", "accepted")
    said = cli("feedback", "export", tmp_path / "out").well()
    assert "not in it, for want of a photo or a label: 1 accepted correction\n" in said
    assert said.startswith("2 photos and")
    with (tmp_path / "out/corrections.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {(each["label"], each["split"]) for each in table} == {("green", "train"), ("red", "train")}
    contents = {each["label"]: (tmp_path / "out" / each["image_path"]).read_bytes() for each in table}
    assert contents == {"green": GREEN, "red": RED}
    assert all(each["image_path"].endswith(".png") for each in table)


def test_a_decision_that_somebody_else_changed_is_not_overwritten(cli: Cli, desk: Feedback) -> None:
    (identity, *_) = [each["id"] for each in cli("feedback", "list", "--json").json()]
    stale = desk.find(identity)
    cli("feedback", "reject", identity).well()
    with pytest.raises(Conflict, match="kim rejected it"):
        desk.decide(stale, Decision("accepted", "lee", "2026-01-01T00:00:00Z"))
    cli("feedback", "accept", identity).well()  # who has looked may change it
    assert desk.find(identity).status == "accepted"


def test_mistyped_ids_decide_nothing(cli: Cli, desk: Feedback) -> None:
    (identity, *_) = [each["id"] for each in cli("feedback", "list", "--json").json()]
    cli("feedback", "accept", identity, "ffff").failed(3)
    assert desk.find(identity).status == "pending"


def test_a_photo_is_forgotten_with_all_that_was_said_of_it(cli: Cli, desk: Feedback, tmp_path: Path) -> None:
    other = Correction.make("grey", photo_sha256=Correction.make("x", photo=GREEN).photo_sha256)
    desk.add(other)
    assert cli("feedback", "forget", str(other.photo_sha256)).well() == "2 corrections forgotten\n"
    left = "".join(path.name for path in (tmp_path / "store" / MODEL / "feedback").rglob("*.photo"))
    assert left.count(".photo") == 1
    assert {case.correction.label for case in desk.cases()} == {"purple", None, "red"}
    purple = next(case for case in desk.cases() if case.correction.label == "purple")
    cli("feedback", "accept", purple.correction.id).well()
    assert cli("feedback", "forget", purple.correction.id[:10]).well() == "1 correction forgotten\n"
    assert not list((tmp_path / "store" / MODEL / "feedback").rglob(f"{purple.correction.id}*"))
    assert "SHA-256 of a photo" in cli("feedback", "forget", "0" * 64).failed(3)


def test_a_deletion_that_is_killed_never_leaves_the_photo_alone(
    desk: Feedback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = next(each for each in desk.cases() if each.correction.label == "green")
    delete = LocalStore.delete
    calls = []

    def killed(self: LocalStore, name: str) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(name)
        delete(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            desk.forget(str(case.correction.photo_sha256))
    assert calls[0].endswith(".photo")
    assert desk.photo(case) is None
    assert desk.forget(case.correction.id) == [case.correction.id]


def test_what_a_killed_deletion_left_goes_with_the_next_one(desk: Feedback, tmp_path: Path) -> None:
    green = next(each for each in desk.cases() if each.correction.label == "green")
    desk.decide(green, Decision("accepted", "kim", "2026-01-01T00:00:00Z"))
    (path,) = tmp_path.rglob(f"{green.correction.id}.json")
    path.unlink()
    with pytest.raises(NotFound):
        desk.forget(green.correction.id)
    assert not list(tmp_path.rglob(f"{green.correction.id}.decision"))


def test_every_store_keeps_them_alike(store: ObjectStore) -> None:
    desk = Feedback(store, MODEL)
    first = Correction.make("pizza", request_id="a")
    assert desk.add(first)
    assert not desk.add(first)
    assert desk.cases()[0].correction == first
    assert desk.forget(first.id) == [first.id]
    assert desk.cases() == []


def test_a_model_without_corrections_says_so(
    cli: Cli, capfd: pytest.CaptureFixture[str], tiny_bundle: Path, tmp_path: Path
) -> None:
    cli("publish", tiny_bundle, "--again").well()
    assert "no pending correction" in cli("feedback", "list").well()
    assert "one of the models food" in call(
        capfd, "feedback", "list", "--model", "x", MODEL_STORE=tmp_path / "store"
    ).failed(3)


def test_copies_of_a_photo_that_is_forgotten_are_named(
    cli: Cli, desk: Feedback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = {each["label"]: each["id"] for each in cli("feedback", "list", "--json").json()}
    cli("feedback", "accept", rows["green"]).well()
    cli("feedback", "export", "corrections").well()
    assert f"corrections/{rows['green']}.png" in cli("feedback", "forget", rows["green"]).well()
    assert cli("feedback", "forget", rows["purple"]).well() == "1 correction forgotten\n"


@pytest.mark.parametrize("label", ["", "  ", "a\nb", "a\u200bb", "\x1b[2J", "x" * 201])
def test_a_label_that_nobody_could_send_is_not_accepted_either(
    cli: Cli, desk: Feedback, label: str, tmp_path: Path
) -> None:
    green = next(each.correction.id for each in desk.cases() if each.correction.label == "green")
    said = cli("feedback", "accept", green, "--label", label).failed(2)
    assert said.startswith("Expected --label to be 1 to 200 characters that can be printed; received ")
    assert desk.find(green).status == "pending" and not list(tmp_path.rglob("*.decision"))


def test_a_decision_that_could_not_be_read_again_is_not_written(desk: Feedback, tmp_path: Path) -> None:
    case = desk.cases()[0]
    with pytest.raises(InvalidManifest, match="label in a decision to be a string that is not empty"):
        desk.decide(case, Decision("accepted", "kim", "2026-01-01T00:00:00Z", ""))
    assert not list(tmp_path.rglob("*.decision"))


def test_a_decision_that_cannot_be_read_stops_nothing_and_is_mended(cli: Cli, desk: Feedback, tmp_path: Path) -> None:
    ids = {each.correction.label: each.correction.id for each in desk.cases()}
    cli("feedback", "accept", ids["green"], ids["purple"]).well()
    (path,) = tmp_path.rglob(f"{ids['green']}.decision")
    damaged = path.read_text().replace('"label": null', '"label": ""')
    path.write_text(damaged)
    short = ids["green"][:8]

    def is_told(done: Done) -> str:
        assert done.code == 0
        assert done.err.count("\n") == 1 and f"{ids['green']}.decision" in done.err
        assert all(f"`admin_cli feedback {each} {short}`" in done.err for each in ("accept", "reject", "forget"))
        return done.out

    assert short in is_told(cli("feedback", "list"))  # it counts as not decided
    assert short not in is_told(cli("feedback", "list", "--status", "accepted"))
    assert is_told(cli("feedback", "export", tmp_path / "out")).startswith("1 photo and")
    assert "what was decided cannot be read" in cli("feedback", "show", short).well()
    doctor = cli("doctor", "--json")
    assert doctor.code == 5
    wrong = next(each for each in json.loads(doctor.out) if each["what"] == "corrections")
    assert (wrong["verdict"], path.name in wrong["found"]) == ("wrong", True)
    assert f"`admin_cli feedback forget {short}`" in wrong["remedy"]

    for remedy, status in (("accept", "accepted"), ("reject", "rejected"), ("forget", None)):
        path.write_text(damaged)
        cli("feedback", remedy, short).well()
        left = {each["id"]: each["status"] for each in cli("feedback", "list", "--status", "all", "--json").json()}
        assert left.get(ids["green"]) == status
    assert "3, and what was decided about them, can be read" in cli("doctor", "--json").out


def test_a_correction_that_cannot_be_read_is_left_out_named_and_forgotten(
    cli: Cli, desk: Feedback, tmp_path: Path
) -> None:
    ids = {each.correction.label: each.correction.id for each in desk.cases()}
    cli("feedback", "accept", ids["green"], ids["purple"]).well()
    short = ids["green"][:8]
    for again in range(2):
        (path,) = tmp_path.rglob(f"{ids['green']}.json")
        path.write_text(path.read_text()[:-20] if again else path.read_text().replace(ids["green"], ids["red"]))

        def is_told(done: Done, path: Path = path) -> str:
            assert done.code == 0
            assert done.err.count("\n") == 1 and path.name in done.err
            assert f"It is left out: `admin_cli feedback forget {short}` deletes it" in done.err
            return done.out

        assert short not in is_told(cli("feedback", "list", "--status", "all"))
        assert is_told(cli("feedback", "export", tmp_path / "out")).startswith("1 photo and")
        assert f"`admin_cli feedback forget {ids['green']}` deletes it" in cli("feedback", "show", short).failed(5)
        doctor = cli("doctor", "--json")
        wrong = next(each for each in json.loads(doctor.out) if each["what"] == "corrections")
        assert (doctor.code, wrong["verdict"], path.name in wrong["found"]) == (5, "wrong", True)
        assert f"`admin_cli feedback forget {short}`" in wrong["remedy"]

        # By its id, or by the photo that lies beside it.
        forgotten = cli("feedback", "forget", hashlib.sha256(GREEN).hexdigest() if again else short).well()
        assert forgotten.startswith("1 correction forgotten")
        assert not list((tmp_path / "store").rglob(f"{ids['green']}*"))
        assert "3, and what was decided about them, can be read" in cli("doctor", "--json").out
        add(desk, "green", Seen(), GREEN)
