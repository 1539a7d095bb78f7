"""Both stores keep the same promises: one suite over each, then what only one of them has."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from classifier.cloud_store import CloudStore
from classifier.errors import InvalidRequest, InvalidSetting, NotFound, PreconditionFailed, Unavailable
from classifier.store import MUST_NOT_EXIST, LocalStore, ObjectStore, StoredObject, open_store
from tests.conftest import BUCKET
from tests.processes import start_together

RIVALS = 8


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
    assert isinstance(open_store("gs://some-bucket/models/"), CloudStore)
    assert open_store("gs://some-bucket/models/").url == "gs://some-bucket/models"
    assert open_store("gs://some-bucket").url == "gs://some-bucket"
    folder = open_store(str(tmp_path / "models"))
    assert isinstance(folder, LocalStore)
    assert not (tmp_path / "models").exists()
    monkeypatch.setenv("HOME", str(tmp_path))
    open_store("~/models").write("x", b"x")
    assert (tmp_path / "models/x").read_bytes() == b"x"


@pytest.mark.parametrize("url", ["", "gs://", "gs://A", "gs://bucket/../x", "s3://bucket/x", "http://host/x", "a\0"])
def test_open_store_refuses_anything_else(url: str) -> None:
    with pytest.raises(InvalidSetting, match="gs://bucket/prefix"):
        open_store(url)


class TestLocalStore:
    RIVAL = (
        "from pathlib import Path\n"
        "from classifier.errors import PreconditionFailed\n"
        "from classifier.store import LocalStore\n"
        "folder, number, generation = sys.argv[1:]\n"
        "store = LocalStore(Path(folder))\n"
        "wait()\n"
        "try:\n"
        "    store.write('race', number.encode(), if_generation=int(generation))\n"
        "    print(number)\n"
        "except PreconditionFailed:\n"
        "    pass\n"
    )

    @pytest.mark.parametrize("existing", [False, True])
    def test_one_of_eight_processes_wins(self, local_store: LocalStore, existing: bool) -> None:
        generation = local_store.write("race", b"start") if existing else MUST_NOT_EXIST
        arguments = [[local_store.url, str(number), str(generation)] for number in range(RIVALS)]
        winners = [printed for printed in start_together(self.RIVAL, arguments) if printed]
        assert len(winners) == 1
        assert local_store.read("race").data == winners[0].encode()

    def test_reading_writes_nothing(self, local_store: LocalStore) -> None:
        assert list(local_store.list()) == []
        with pytest.raises(NotFound):
            local_store.read("x")
        assert not local_store.folder.exists()

    def test_a_store_whose_files_have_no_times_is_readable_and_writable(self, local_store: LocalStore) -> None:
        local_store.write("x", b"1")
        os.utime(local_store.folder / "x", ns=(0, 0))
        content = local_store.read("x")
        assert content.generation != MUST_NOT_EXIST
        with pytest.raises(PreconditionFailed):
            local_store.write("x", b"2", if_generation=MUST_NOT_EXIST)
        assert local_store.write("x", b"2", if_generation=content.generation) > content.generation

    def test_a_generation_from_the_future_still_grows(self, local_store: LocalStore) -> None:
        local_store.write("x", b"1")
        future = time.time_ns() + 10**15
        os.utime(local_store.folder / "x", ns=(future, future))
        assert local_store.write("x", b"2", if_generation=future) > future

    def test_a_file_system_with_coarse_times_still_gets_growing_generations(
        self, local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        exact = os.utime

        def utime_to_two_seconds(path: object, *, ns: tuple[int, int]) -> None:
            exact(path, ns=tuple(each - each % 2_000_000_000 for each in ns))

        monkeypatch.setattr(os, "utime", utime_to_two_seconds)
        generations = [local_store.write("x", b"") for _ in range(5)]
        assert generations == sorted(set(generations))
        assert local_store.read("x").generation == generations[-1]

    def test_only_old_temporary_files_are_removed(self, local_store: LocalStore) -> None:
        local_store.write("x", b"1")
        old, recent = local_store.folder / ".tmp/old", local_store.folder / ".tmp/recent"
        old.write_bytes(b"")
        recent.write_bytes(b"")
        long_ago = time.time() - 25 * 3600
        os.utime(old, (long_ago, long_ago))
        local_store.write("x", b"2")
        assert [path.name for path in (local_store.folder / ".tmp").iterdir()] == ["recent"]

    def test_a_refused_write_leaves_no_temporary_file(self, local_store: LocalStore) -> None:
        local_store.write("x", b"1")
        with pytest.raises(PreconditionFailed):
            local_store.write("x", b"2", if_generation=MUST_NOT_EXIST)
        assert list((local_store.folder / ".tmp").iterdir()) == []

    def test_a_reader_sees_one_write_and_its_generation_never_a_mixture(self, local_store: LocalStore) -> None:
        written = {local_store.write("x", bytes([0]) * 100_000): 0}
        done = threading.Event()

        def read() -> list[tuple[int, set[int]]]:
            seen = []
            while not done.is_set():
                content = local_store.read("x")
                seen.append((content.generation, set(content.data)))
            return seen

        with ThreadPoolExecutor(2) as pool:
            readers = [pool.submit(read) for _ in range(2)]
            try:
                for value in range(1, 60):
                    written[local_store.write("x", bytes([value]) * 100_000)] = value
            finally:
                done.set()
        for reader in readers:
            assert reader.result()
            assert all(values == {written[generation]} for generation, values in reader.result())

    def test_a_file_where_the_folder_should_be_is_unavailable(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        store = LocalStore(tmp_path / "file")
        for use in (lambda: store.read("x"), lambda: store.write("x", b""), lambda: list(store.list())):
            with pytest.raises(Unavailable, match=r"file cannot be used.*Check that it is a folder"):
                use()

    def test_a_lock_that_is_never_freed_is_unavailable(
        self, local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from filelock import FileLock

        local_store.write("x", b"1")
        monkeypatch.setattr("classifier.store.LOCK_TIMEOUT", 0.1)
        with FileLock(local_store.folder / ".lock"):
            assert local_store.read("x").data == b"1"
            with pytest.raises(Unavailable, match="locked by another process"):
                local_store.write("x", b"2")


class TestCloudStore:
    def test_prefixes_do_not_see_each_other(self, cloud_store: CloudStore) -> None:
        prefix = cloud_store.url.removeprefix(f"gs://{BUCKET}/")
        other = CloudStore(BUCKET, f"{prefix}-2")
        whole = CloudStore(BUCKET)
        try:
            cloud_store.write("x", b"1")
            other.write("x", b"2")
            assert cloud_store.read("x").data == b"1"
            assert other.read("x").data == b"2"
            assert [item.name for item in cloud_store.list()] == ["x"]
            assert whole.read(f"{prefix}/x").data == b"1"
            assert [item.name for item in whole.list(prefix)] == [f"{prefix}-2/x", f"{prefix}/x"]
        finally:
            other.close()
            whole.close()

    def test_a_bucket_that_does_not_exist_is_unavailable(self, cloud_store: CloudStore) -> None:
        store = CloudStore("no-such-bucket")
        for use in (lambda: store.write("x", b""), lambda: list(store.list())):
            with pytest.raises(Unavailable, match=r"gs://no-such-bucket.*no bucket"):
                use()
        store.close()

    def test_a_closed_store_opens_again(self, cloud_store: CloudStore) -> None:
        cloud_store.write("x", b"1")
        cloud_store.close()
        assert cloud_store.read("x").data == b"1"

    @pytest.fixture(params=["closed port", "no answer", "server errors"])
    def dead_server(self, request: pytest.FixtureRequest) -> Iterator[str]:
        """A server that cannot be reached, one that never answers, one that only fails."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            if request.param == "closed port":
                listener.close()
            if request.param == "server errors":
                threading.Thread(target=_answer_503, args=(listener,), daemon=True).start()
            yield url
            if request.param == "server errors":
                listener.shutdown(socket.SHUT_RDWR)

    def test_a_dead_server_is_unavailable_in_bounded_time(
        self, dead_server: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", dead_server)
        import google.cloud.storage  # noqa: F401  # the first import takes seconds, which are not the store's

        store = CloudStore("some-bucket", "models", patience=0.3, timeout=0.3)
        for use in (
            lambda: store.read("x"),
            lambda: store.read_if_changed("x", 1),
            lambda: store.write("x", b"1", if_generation=0),
            lambda: list(store.list()),
        ):
            started = time.monotonic()
            with pytest.raises(Unavailable, match=r"gs://some-bucket/models cannot be reached: .*\. Check") as caught:
                use()
            assert time.monotonic() - started < 3
            assert caught.value.__cause__ is not None
        store.close()

    def test_an_interrupted_download_goes_on_where_it_stopped(self, monkeypatch: pytest.MonkeyPatch) -> None:
        content = os.urandom(1 << 20)
        half = len(content) // 2
        ranges = []

        class Interrupting(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                ranges.append((self.headers.get("Range"), parse_qs(urlsplit(self.path).query).get("generation")))
                start = half if self.headers.get("Range") else 0
                self.send_response(206 if start else 200)
                self.send_header("Content-Length", str(len(content) - start))
                self.send_header("X-Goog-Generation", "7")
                self.end_headers()
                self.wfile.write(content[start:] if start else content[:half])

            def log_message(self, *args: object) -> None:
                pass

        with HTTPServer(("127.0.0.1", 0), Interrupting) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{server.server_port}")
            store = CloudStore("some-bucket")
            received = store.read("x")
            store.close()
            server.shutdown()
        assert (received.data == content, received.generation) == (True, 7)
        # No third request either: the client would ask for the bucket's metadata, which needs another permission.
        assert ranges == [(None, None), (f"bytes={half}-", ["7"])]

    def test_missing_credentials_are_unavailable(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "absent.json"))
        with pytest.raises(Unavailable, match=r"absent\.json was not found.*gcloud auth"):
            CloudStore("some-bucket").read("x")


def _answer_503(listener: socket.socket) -> None:
    answer = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
