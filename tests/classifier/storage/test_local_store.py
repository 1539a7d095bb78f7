"""What only a store in a folder has: processes at the same time, times of files, temporary files and the lock."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from classifier.errors import NotFound, PreconditionFailed, Unavailable
from classifier.storage.local import LocalStore
from classifier.storage.protocol import MUST_NOT_EXIST
from tests.support.processes import RIVALS, start_together


class TestLocalStore:
    RIVAL = (
        "from pathlib import Path\n"
        "from classifier.errors import PreconditionFailed\n"
        "from classifier.storage.local import LocalStore\n"
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

    def test_a_store_that_a_rival_is_making_is_not_taken_for_a_file(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store, looked = LocalStore(tmp_path / "store"), Path.stat

        def stat(path: Path, **options: bool) -> os.stat_result:
            try:
                return looked(path, **options)
            finally:
                os.makedirs(store.folder, exist_ok=True)  # noqa: PTH103 - Path.mkdir looks itself; a rival made it

        monkeypatch.setattr(Path, "stat", stat)
        assert list(store.folders()) == []
        assert store.folder.is_dir()

    def test_a_lock_that_is_never_freed_is_unavailable(
        self, local_store: LocalStore, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from filelock import FileLock

        local_store.write("x", b"1")
        monkeypatch.setattr("classifier.storage.local.LOCK_TIMEOUT", 0.1)
        with FileLock(local_store.folder / ".lock"):
            assert local_store.read("x").data == b"1"
            with pytest.raises(Unavailable, match="locked by another process"):
                local_store.write("x", b"2")
