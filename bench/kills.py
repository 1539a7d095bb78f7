"""Every command that writes, killed behind every write. Part of `bench/reliability.py`.

The commands are those of tests/support/kill_cases.py, which a test compares with the command line. Each is run again
and again in a copy of the same place, and ended with SIGKILL behind its first write, its second, and so on; what each
leaves is read by everything that reads a store. tests/admin_cli/test_admin_cli_crash.py asks more: that nothing is
between before and after, and that the same command goes on.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

from admin_cli.replay import replay
from classifier.errors import PointerError
from classifier.quiet import quiet
from classifier.registry.channels import PRODUCTION
from classifier.registry.rules import Registry
from classifier.storage.local import LocalStore
from classifier.traffic.feedback import Feedback
from tests.support.bundles import build_tiny_bundle
from tests.support.commands import process
from tests.support.kill_cases import CASES, PUBLISH, Case, Make, make_place, prepare
from tests.support.killpoints import killing
from tests.support.serving import MODEL

PROGRAM = "tests.support.killed_program:program"


class Killed(NamedTuple):
    """What the kills of one command left."""

    command: str
    kills: int
    """As many as it has writes: each is killed behind one of them."""
    as_before: int
    """Of those, how many left everything as it was before."""
    unreadable: list[str]
    """What could not be read afterwards."""


def measure() -> Iterator[Killed]:
    """Kill one command after the other."""
    cli = partial(process, POINTER_WHO="kim", MODEL_NAME=MODEL)
    with tempfile.TemporaryDirectory() as folder, killing(PROGRAM) as everywhere:
        origin = Path(folder, "places")
        bundle = build_tiny_bundle(Path(folder, "bundle"))
        make_place(cli, bundle, origin / "plain")
        for name, case in {"publish": PUBLISH, **CASES}.items():
            place = _place(cli, case, origin)
            copies = Path(folder, "copies")
            left = everywhere(place, copies, *case.arguments.split(), visible=True, code=case.code)
            before = _state(place)
            states = [_state(each) for each in left]
            killed = states[:-1]
            yield Killed(
                name,
                len(killed),
                sum(state == before for state in killed),
                [state for state in states if state.startswith("unreadable")],
            )
            shutil.rmtree(copies)


def _place(cli: Make, case: Case, origin: Path) -> Path:
    place = origin / case.place
    if not place.is_dir():
        shutil.copytree(origin / "plain", place)
        prepare(case.place, cli, place)
    return place


def _state(place: Path) -> str:
    """Return what everything that reads says of a store, or that something cannot be read."""
    registry = Registry(LocalStore(place / "store"), MODEL)
    try:
        versions = registry.versions()
        if broken := [each.version for each in versions if not each.complete or each.problem]:
            return f"unreadable: {broken}"
        channels = registry.channels()
        serving = channels.production
        if serving is None:
            return "unreadable: nothing serves"
        with quiet():
            registry.verify(serving.version, replay=replay)
        cases = Feedback(registry.store, MODEL).cases()
    except PointerError as error:
        return f"unreadable: {error}"
    others = [each and each.version for each in (channels.canary, channels.shadow)]
    return str((
        [each.version for each in versions], PRODUCTION, serving.version, others, len(channels.history),
        channels.gate.to_dict(), sorted((each.correction.id, each.status, each.label or "") for each in cases),
    ))  # fmt: skip
