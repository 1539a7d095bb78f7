"""Both stores keep the same promises: one suite over each, and which of them a URL opens."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from classifier.errors import InvalidRequest, InvalidSetting, NotFound, PreconditionFailed
from classifier.storage.cloud import CloudStore
from classifier.storage.json_api import JsonApiStore
from classifier.storage.local import LocalStore
from classifier.storage.opening import open_store
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore, StoredObject
from tests.support.processes import RIVALS


def test_what_is_written_is_read_with_its_generation(store: ObjectStore) -> None:
    generation = store.write("a/b.json", b"{}", content_type="application/json")
    assert generation > MUST_NOT_EXIST
    content = store.read("a/b.json")
    assert (content.data, content.generation) == (b"{}", generation)


def test_an_empty_object_is_an_object(store: ObjectStore) -> None:
    store.write("empty", b"")
    assert store.read("empty").data == b""


def test_generations_grow(store: ObjectStore) -> None:
    generations = [store.write("counter", str(i).encode()) for i in range(20)]
    assert generations == sorted(set(generations))
    assert store.read("counter").data == b"19"


def test_names_keep_their_characters(store: ObjectStore) -> None:
    name = "photos/crème brûlée + 김치 100%?#.jpg"
    store.write(name, b"x")
    assert store.read(name).data == b"x"
    assert [item.name for item in store.list("photos/")] == [name]


def test_create_only_refuses_an_object_that_exists(store: ObjectStore) -> None:
    store.write("once", b"first", if_generation=MUST_NOT_EXIST)
    with pytest.raises(PreconditionFailed, match="once"):
        store.write("once", b"second", if_generation=MUST_NOT_EXIST)
    assert store.read("once").data == b"first"


def test_compare_and_swap_needs_the_generation_that_is_there(store: ObjectStore) -> None:
    first = store.write("pointer", b"1")
    second = store.write("pointer", b"2", if_generation=first)
    with pytest.raises(PreconditionFailed):
        store.write("pointer", b"3", if_generation=first)
    with pytest.raises(PreconditionFailed):
        store.write("missing", b"3", if_generation=second)
    assert store.read("pointer").data == b"2"
    with pytest.raises(NotFound):
        store.read("missing")


@pytest.mark.parametrize("existing", [False, True])
def test_one_of_eight_threads_wins(store: ObjectStore, existing: bool) -> None:
    generation = store.write("race", b"start") if existing else MUST_NOT_EXIST
    barrier = threading.Barrier(RIVALS)

    def rival(number: int) -> int | None:
        barrier.wait()
        try:
            store.write("race", str(number).encode(), if_generation=generation)
        except PreconditionFailed:
            return None
        return number

    with ThreadPoolExecutor(RIVALS) as pool:
        winners = [number for number in pool.map(rival, range(RIVALS)) if number is not None]
    assert len(winners) == 1
    assert store.read("race").data == str(winners[0]).encode()


def test_no_increment_of_eight_threads_is_lost(store: ObjectStore) -> None:
    store.write("sum", b"0")

    def increment(_: int) -> None:
        while True:
            content = store.read("sum")
            try:
                store.write("sum", str(int(content.data) + 1).encode(), if_generation=content.generation)
            except PreconditionFailed:
                continue
            return

    with ThreadPoolExecutor(RIVALS) as pool:
        list(pool.map(increment, range(RIVALS * 2)))
    assert store.read("sum").data == str(RIVALS * 2).encode()


def test_a_read_of_what_has_not_changed_gives_none(store: ObjectStore) -> None:
    first = store.write("pointer", b"1")
    assert store.read_if_changed("pointer", first) is None
    second = store.write("pointer", b"2")
    changed = store.read_if_changed("pointer", first)
    assert changed is not None
    assert (changed.data, changed.generation) == (b"2", second)
    assert store.read_if_changed("pointer", second) is None


def test_a_missing_object_is_not_found(store: ObjectStore) -> None:
    with pytest.raises(NotFound, match=r"'no/such'.*there is none"):
        store.read("no/such")
    with pytest.raises(NotFound):
        store.read_if_changed("no/such", 5)
    with pytest.raises(NotFound), Path(os.devnull).open("wb") as file:
        store.download("no/such", file)
    assert list(store.list()) == []


def test_a_folder_is_not_an_object(store: ObjectStore) -> None:
    store.write("folder/file", b"x")
    with pytest.raises(NotFound):
        store.read("folder")
    with pytest.raises(NotFound):
        store.read("folder/file/below")


def test_what_is_deleted_is_gone_and_may_be_created_again(store: ObjectStore) -> None:
    before = store.write("a/b.json", b"1")
    store.write("a/c.json", b"2")
    store.delete("a/b.json")
    store.delete("a/b.json")
    store.delete("never/was.json")
    assert [item.name for item in store.list()] == ["a/c.json"]
    with pytest.raises(NotFound):
        store.read("a/b.json")
    assert store.write("a/b.json", b"3", if_generation=MUST_NOT_EXIST) != MUST_NOT_EXIST
    assert store.read("a/b.json").data == b"3"
    assert before != MUST_NOT_EXIST


def test_listing_is_sorted_and_takes_any_prefix(store: ObjectStore) -> None:
    written = {name: store.write(name, name.encode()) for name in ("b/2", "b/10", "b.json", "a", "b/c/d", "bb/1")}
    items = list(store.list())
    assert [item.name for item in items] == ["a", "b.json", "b/10", "b/2", "b/c/d", "bb/1"]
    assert items[0] == StoredObject("a", 1, written["a"])
    assert [item.name for item in store.list("b/")] == ["b/10", "b/2", "b/c/d"]
    assert [item.name for item in store.list("b/1")] == ["b/10"]
    assert [item.name for item in store.list("b")] == ["b.json", "b/10", "b/2", "b/c/d", "bb/1"]
    assert list(store.list("c/")) == []


def test_a_large_file_is_streamed_both_ways(store: ObjectStore, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1 << 20) * 9 + b"the end")
    generation = store.write("large", source, if_generation=MUST_NOT_EXIST)
    with target.open("wb") as file:
        assert store.download("large", file) == generation
    assert target.read_bytes() == source.read_bytes()
    with pytest.raises(PreconditionFailed):
        store.write("large", source, if_generation=MUST_NOT_EXIST)
    assert [(item.size, item.generation) for item in store.list()] == [(9 * (1 << 20) + 7, generation)]


def test_a_source_file_that_is_not_there_is_named(store: ObjectStore, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"absent\.bin"):
        store.write("x", tmp_path / "absent.bin")
    assert list(store.list()) == []


UNSAFE = [
    "", "/", "/etc/passwd", "..", "../x", "a/../../x", "a/..", ".", "a/./b", "a//b", "a/", "a\\b", "a\0b", "a\nb",
    "\ud800", "x" * 300, "a/" * 600 + "a", ".lock", ".tmp/x",
]  # fmt: skip


@pytest.mark.parametrize("name", UNSAFE, ids=ascii)
def test_unsafe_names_are_refused_by_every_method(store: ObjectStore, name: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest):
        store.read(name)
    with pytest.raises(InvalidRequest):
        store.read_if_changed(name, 1)
    with pytest.raises(InvalidRequest):
        store.write(name, b"x")
    with pytest.raises(InvalidRequest), (tmp_path / "target").open("wb") as file:
        store.download(name, file)


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", ".tmp/"])
def test_unsafe_prefixes_are_refused(store: ObjectStore, prefix: str) -> None:
    with pytest.raises(InvalidRequest):
        list(store.list(prefix))


def test_open_store_takes_a_bucket_or_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(open_store("gs://some-bucket/models/"), JsonApiStore)
    with monkeypatch.context() as patch:
        patch.setenv("STORAGE_CLIENT", "google-cloud-storage")
        assert isinstance(open_store("gs://some-bucket/models/"), CloudStore)
        patch.setenv("STORAGE_CLIENT", "boto")
        with pytest.raises(
            InvalidSetting, match=r"STORAGE_CLIENT to be json-api or google-cloud-storage; received 'boto'"
        ):
            open_store("gs://some-bucket")
    assert open_store("gs://some-bucket/models/").url == "gs://some-bucket/models"
    assert open_store("gs://some-bucket").url == "gs://some-bucket"
    folder = open_store(str(tmp_path / "models"))
    assert isinstance(folder, LocalStore)
    assert not (tmp_path / "models").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    open_store("~/models").write("x", b"x")
    assert (tmp_path / "models/x").read_bytes() == b"x"


def test_folders_are_told_by_their_names(store: ObjectStore) -> None:
    for name in ("versions/v10/a", "versions/v2/b/c", "versions/note", "channels.json"):
        store.write(f"food/{name}", b"x")
    store.write("z/a", b"x")
    store.write("top", b"x")
    assert list(store.folders()) == ["food", "z"]
    assert list(store.folders("food/")) == ["versions"]
    assert list(store.folders("food/versions/")) == ["v10", "v2"]
    for empty in ("z/", "none/", "food/channels.json/", "fo/"):
        assert list(store.folders(empty)) == []
    with pytest.raises(InvalidRequest):
        store.folders("../")


def test_a_folder_that_does_not_exist_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"There is no store at {tmp_path}/none: the folder does not exist"):
        LocalStore(tmp_path / "none").folders()


@pytest.mark.parametrize("url", ["", "gs://", "gs://A", "gs://bucket/../x", "a\0"])
def test_a_store_is_a_bucket_or_a_folder(url: str) -> None:
    with pytest.raises(InvalidSetting, match="gs://bucket/prefix"):
        open_store(url)


@pytest.mark.parametrize("url", ["gs:/bucket/x", "gs:bucket/x", "gs//bucket/x", "GS://bucket/x", "gcs://bucket/x",
                                 "gcs:/bucket/x", "gs;//bucket/x", "gs:\\\\bucket/x", "gs:///bucket/x"])  # fmt: skip
def test_a_mistyped_address_is_no_folder_and_is_told_what_was_meant(url: str) -> None:
    with pytest.raises(InvalidSetting, match="gs://bucket/"):
        open_store(url)


@pytest.mark.parametrize("url", ["s3://bucket/x", "s3:/bucket", "s3//bucket", "http://host/x", "https:/host", "az:x",
                                 "file:///srv/models", "abfss://x@y/z", "odd+scheme:/x"])  # fmt: skip
def test_an_address_of_something_else_is_no_folder(url: str) -> None:
    with pytest.raises(InvalidSetting, match=r"Cloud Storage or a folder; a folder of that name is \./"):
        open_store(url)


@pytest.mark.parametrize(
    "url", ["models", "./gs:/bucket", "/gs//bucket", "gs", "gs/bucket", "a:b", "c:/models", "s3x:a"]
)
def test_a_folder_may_have_any_other_name(url: str) -> None:
    assert isinstance(open_store(url), LocalStore)
