"""What a program does with the module pointer_client: `python … SCENARIO '{"url": …}'` prints what it got."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pointer_client import Cancelled, Client, DamagedError, ProblemError

given = json.loads(sys.argv[2])
photo = base64.b64decode(given["photo"])
url = given["url"]


def error_of(kind: type[BaseException], call: Callable[[], object]) -> Any:
    try:
        call()
    except kind as error:
        return error
    raise AssertionError("expected an error")


def predicts() -> object:
    said = Client(url).predict(photo, top_k=2, gradcam="blue", gradcam_format="png", tta="mirror")
    explained = said["gradcam"]
    shown = explained["label"], explained["media_type"], said["views"], said["model"]["version"]
    return [said["label"], said["status"], len(said["predictions"]), *shown]


def several() -> object:
    Path("photo.png").write_bytes(photo)
    first, second = Client(f"{url}/api").predict_several(["photo.png", b"no photo"])["results"]
    return [first["label"], second["problem"]["status"]]


def alone() -> object:
    client = Client(url)
    said = client.predict_several([io.BytesIO(photo)])  # as an opened file is read
    (result,) = said["results"]
    assert error_of(TypeError, lambda: client.predict(io.StringIO("text"))).args[0].endswith("Open it with 'rb'.")
    none = str(error_of(ValueError, lambda: client.predict_several([])))
    return [1, result["index"], result["label"], "model" in result, said["model"]["version"], none]


def explains() -> object:
    shown = Client(url).explain(photo, gradcam_size=64)
    return [shown.media_type, list(shown.image[:3]), shown.label, shown.confidence > 0.5, shown.version]


def corrects() -> object:
    client = Client(url)
    said = client.predict(photo)
    correction = {
        "label": "paella",
        "request_id": said["request_id"],
        "seen": {"label": said["label"], "version": said["model"]["version"]},
    }
    first, second = client.feedback(correction), client.feedback(correction)
    return [first["known"], second["known"], first["id"] == second["id"]]


def describes() -> object:
    client = Client(url)
    described, models = client.model(), client.models()
    return [described.model["version"], client.model(described) is described, models["default"], len(models["models"])]


def downloads() -> object:
    client, progress = Client(url), [0, 1]
    file = client.model_file(progress=lambda *told: progress.__setitem__(slice(2), told))
    again = client.model_file(file)
    same = hashlib.sha256(file.content).hexdigest() == file.model["file"]["sha256"]
    return [file.model["version"], same, again is file, progress[0] == progress[1]]


def damaged() -> object:
    return [True, str(error_of(DamagedError, lambda: Client(url).model_file()))]


def waits() -> object:
    client = Client(url)
    with ThreadPoolExecutor(3) as pool:
        return [said["label"] for said in pool.map(lambda _: client.predict(photo), range(3))]


def gives_up() -> object:
    began = time.monotonic()
    error = error_of(ProblemError, lambda: Client(url, deadline=5).predict(photo))
    return [error.status, error.slug, error.retry_after, time.monotonic() - began < 3]


def late() -> object:
    return type(error_of(TimeoutError, lambda: Client(url).predict(photo, deadline=0.2))).__name__


def cancelled() -> object:
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    began = time.monotonic()
    error = error_of(Cancelled, lambda: Client(url).predict(photo, cancel=stop))
    return [type(error).__name__, time.monotonic() - began < 3]


def refused() -> object:
    error = error_of(ProblemError, lambda: Client(url).predict(photo, top_k=0))
    problem = error.problem
    return [True, error.status, error.slug, str(error) == problem["detail"], bool(problem["request_id"])]


def tokens() -> object:
    asked = []

    def id_token(refresh: bool) -> str:
        asked.append(refresh)
        return given["tokens"]["user"] if refresh else "an old one"

    def app_check(refresh: bool) -> str:
        return given["tokens"]["app"]

    said = Client(url, id_token=id_token, app_check_token=app_check).predict(photo)
    old = Client(url, id_token=lambda refresh: "an old one", app_check_token=app_check)
    error = error_of(ProblemError, old.model)
    clear = error_of(ValueError, lambda: Client("http://a.example", id_token=id_token))
    return [said["label"], asked, error.slug, str(clear)]


SCENARIOS = {
    "predicts": predicts, "several": several, "alone": alone, "explains": explains, "corrects": corrects,
    "describes": describes, "downloads": downloads, "damaged": damaged, "waits": waits, "givesUp": gives_up,
    "late": late, "cancelled": cancelled, "refused": refused, "tokens": tokens,
}  # fmt: skip
sys.stdout.write(json.dumps(SCENARIOS[sys.argv[1]]()))
