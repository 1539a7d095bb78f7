"""One search shared by several processes, through Keras Tuner's own settings and its gRPC service.

KERASTUNER_TUNER_ID      chief, or any other name for a worker
KERASTUNER_ORACLE_IP     the chief's address
KERASTUNER_ORACLE_PORT   and port
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

from classifier.errors import InvalidSetting, Unavailable

SETTINGS = ("KERASTUNER_TUNER_ID", "KERASTUNER_ORACLE_IP", "KERASTUNER_ORACLE_PORT")
CHIEF_STARTS = 3600.0
"""Seconds for which a worker waits until the chief has prepared the photos and answers."""
CHIEF_ANSWERS = 120.0
"""Seconds for which it waits for an answer after that."""
NOBODY = 10.0
"""After how many times the seconds that make a worker lost the chief gives up, if none is left."""


@dataclass(frozen=True)
class Role:
    """What this process does in a search."""

    kind: Literal["alone", "chief", "worker"]
    name: str = "alone"
    address: str = ""


def read_role(env: Mapping[str, str] | None = None) -> Role:
    """Return this process's role from the environment.

    Raises:
        InvalidSetting: only some of the settings are there, or the port is none.
    """
    env = os.environ if env is None else env
    given = [name for name in SETTINGS if env.get(name)]
    if not given:
        return Role("alone")
    missing = [name for name in SETTINGS if name not in given]
    if missing:
        raise InvalidSetting(f"Expected {' and '.join(missing)} with {' and '.join(given)}; received none.")
    name, host, port = (env[each] for each in SETTINGS)
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise InvalidSetting(f"Expected {SETTINGS[2]} to be a port; received {port!r}.")
    # Keras Tuner takes every name with "chief" in it for the chief.
    return Role("chief" if "chief" in name else "worker", name, f"{host}:{port}")


def serve(
    oracle: Any,
    address: str,
    *,
    lost_after: float,
    on_lost: Callable[[str, int | None], None],
    poll: Callable[[], None],
) -> None:
    """Answer the workers until the search is over and they know.

    Args:
        oracle: a `LastingOracle`.
        address: host and port to listen on.
        lost_after: seconds without a sign after which a worker's trial is given to another.
        on_lost: called with the worker's name and the number of its trial.
        poll: called every half second.

    Raises:
        InvalidSetting: the port cannot be had.
        Unavailable: all workers are lost and no other has come.
    """
    import grpc  # type: ignore[import-untyped]
    from keras_tuner.src import protos
    from keras_tuner.src.distribute.oracle_chief import OracleServicer

    oracle.shared = True
    # gRPC would share the port with another chief.
    server = grpc.server(ThreadPoolExecutor(max_workers=1), options=[("grpc.so_reuseport", 0)])
    servicer = OracleServicer(oracle)
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise InvalidSetting(f"The chief cannot listen on {address}: choose another {SETTINGS[2]}.")
    server.start()
    try:
        while not (servicer.stop_triggered and not oracle.ongoing_trials and not oracle.tuner_ids):
            time.sleep(0.5)
            poll()
            for name, trial in oracle.drop_lost_workers(lost_after):
                on_lost(name, trial)
            if oracle.heard and time.monotonic() - max(oracle.heard.values()) > NOBODY * lost_after:
                raise Unavailable(
                    f"No worker has been heard of for {NOBODY * lost_after:.0f} s. "
                    "Start chief and workers with the same commands again: the search goes on."
                )
    finally:
        server.stop(grace=2).wait()


def connect(role: Role) -> Any:
    """Return the chief's oracle as a worker sees it, once the chief answers.

    Raises:
        Unavailable: it does not.
    """
    from keras_tuner.src.distribute.oracle_client import OracleClient

    client = OracleClient(None)
    client.stub = _Stub(client.stub, role.address, CHIEF_STARTS)
    client.get_space()
    client.stub.patience = CHIEF_ANSWERS
    return client


@contextmanager
def heartbeats(oracle: Any, trial: Any, every: float) -> Iterator[None]:
    """Let the chief know, while the block runs, that somebody is at work on this trial."""
    ended = threading.Event()

    def sign() -> None:
        while not ended.wait(every):
            try:
                oracle.get_trial(trial.trial_id)
            except Unavailable:
                # The end of the trial will say so.
                continue

    thread = threading.Thread(target=sign, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _Stub:
    """Keras Tuner's stub of the chief, which otherwise waits an hour for every answer."""

    def __init__(self, stub: Any, address: str, patience: float) -> None:
        self.stub, self.address, self.patience = stub, address, patience

    def __getattr__(self, name: str) -> Any:
        import grpc

        def ask(request: Any, *, wait_for_ready: bool = True, timeout: float = 0.0) -> Any:
            try:
                return getattr(self.stub, name)(request, wait_for_ready=True, timeout=self.patience)
            except grpc.RpcError as error:
                raise Unavailable(
                    f"The chief at {self.address} does not answer ({error.code().name}). "
                    "Start chief and workers with the same commands again: the search goes on."
                ) from error

        return ask
