"""A promotion reaches a function that was not called for long: real processes, stopped as the platform stops them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from classifier.registry.rules import Registry
from classifier.serving import golden
from classifier.storage.local import LocalStore
from tests.support.processes import FUNCTIONS
from tests.support.serving import copy_store, photo_bytes, publish, serve

QUIET = 0.6
MAIN = """
import importlib.util, sys
sys.path.insert(0, {functions!r})
from classifier.serving import looks
looks.QUIET_AT_LEAST = {quiet}
spec = importlib.util.spec_from_file_location("pointer_main", {main!r})
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
predict = module.predict
"""


@pytest.mark.parametrize("rolled_back", [False, True], ids=["promotion", "rollback"])
def test_the_first_request_after_a_quiet_time_is_answered_by_what_is_pointed_at(
    published: Path, tiny_bundle: Path, tmp_path: Path, rolled_back: bool
) -> None:
    store, source = copy_store(published, tmp_path / "store"), tmp_path / "source"
    source.mkdir()
    (source / "main.py").write_text(MAIN.format(quiet=QUIET, functions=str(FUNCTIONS), main=str(FUNCTIONS / "main.py")))
    if rolled_back:
        publish(store, tiny_bundle)

    def version() -> str:
        reply = serving.post(data=photo_bytes(), headers={"Content-Type": "image/jpeg"})
        return str(reply.json()["model"]["version"])

    with serve(store, tmp_path / "server", functions=source, POINTER_TTL="0.01") as serving:
        assert version() == ("v2" if rolled_back else "v1")
        os.killpg(serving.process.pid, signal.SIGSTOP)
        if rolled_back:
            Registry(LocalStore(store), "food").rollback(who="tester", reason="test", replay=golden.replay)
        else:
            publish(store, tiny_bundle)
        time.sleep(QUIET)
        os.killpg(serving.process.pid, signal.SIGCONT)
        asked = time.monotonic()
        assert version() == ("v1" if rolled_back else "v2")
        assert time.monotonic() - asked < 1.0
