"""A client of Pointer's HTTP contract in one file, over `requests`.

    from pointer_client import Client

    pointer = Client("https://example.web.app/api")
    said = pointer.predict("lunch.jpg", top_k=3)
    print(said["label"], said["confidence"], said["status"])

Replies are the contract's JSON as it is, typed by the classes below; members that a later server adds are there too.
What the server refuses is a `ProblemError`. A client may be used by several threads.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple, NotRequired, TypedDict, TypeVar, cast
from urllib.parse import unquote, urljoin, urlsplit

import requests

__all__ = [
    "Cancelled", "Client", "Correction", "DamagedError", "Described", "Downloaded", "Model", "Models", "Overlay",
    "Prediction", "Predictions", "Problem", "ProblemError",
]  # fmt: skip
__version__ = "0.1.0"

Photo = str | os.PathLike[str] | bytes | BinaryIO
"""A file's path, its bytes, or the file itself, opened to read bytes; of any format that the contract names."""
Token = Callable[[bool], str | None]
"""Gives a token when a request needs one. It is called with True where the last one was refused."""

PART = 8 * 2**20
"""Bytes of a download that are asked for at once."""
ATTEMPTS = 3
"""How often a download begins anew, because another version serves."""
BLOCK = 2**16
_Answer = TypeVar("_Answer")


class Labelled(TypedDict):
    """A label and how probable it is, 0 to 1."""

    label: str
    confidence: float


class Gradcam(TypedDict):
    """What speaks for a label, as a picture in base64."""

    label: str
    media_type: Literal["image/jpeg", "image/png", "image/webp"]
    image: str


class Fallback(TypedDict):
    """Which version should answer, and why another one does."""

    pointed: str
    reason: Literal["missing", "corrupt", "unloadable", "unavailable"]


class Served(TypedDict):
    """The version that answers."""

    name: str
    version: str
    channel: str
    task: str
    fallback: NotRequired[Fallback]


class Classified(TypedDict):
    """What is said of one photo; `status` is `unknown` where it is not like those that the model was trained on."""

    label: str
    confidence: float
    label_idx: int
    status: Literal["ok", "unknown"]
    score: float
    tta: bool
    views: NotRequired[Literal[2, 5, 10]]
    predictions: list[Labelled]
    gradcam: NotRequired[Gradcam]


class Prediction(Classified):
    """The reply to one photo."""

    model: Served
    request_id: str


class Problem(TypedDict):
    """What is wrong, and the remedy: RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    field: NotRequired[str]
    retry_after: NotRequired[int]
    request_id: NotRequired[str]


class PhotoResult(Classified):
    """One of several photos."""

    index: int


class PhotoProblem(TypedDict):
    """One of several photos, which could not be classified."""

    index: int
    problem: Problem


class Predictions(TypedDict):
    """The reply to several photos, in their order."""

    results: list[PhotoResult | PhotoProblem]
    model: Served
    request_id: str


class Seen(TypedDict, total=False):
    """What the reply that is corrected had said."""

    version: str
    channel: Literal["production", "canary"]
    label: str
    confidence: float
    status: Literal["ok", "unknown"]


class Correction(TypedDict):
    """What a photo shows; None for none of the labels.

    One of `request_id`, `photo_sha256` and `image` (base64, with `consent`) says which photo is meant.
    """

    label: str | None
    request_id: NotRequired[str]
    photo_sha256: NotRequired[str]
    image: NotRequired[str]
    consent: NotRequired[bool]
    seen: NotRequired[Seen]
    model: NotRequired[str | None]


class Corrected(TypedDict):
    """A correction as it is kept."""

    id: str
    photo: bool
    known: bool
    request_id: str


class Input(TypedDict):
    """The photo as the model takes it, in pixels."""

    width: int
    height: int
    resize: Literal["stretch", "crop"]


class File(TypedDict):
    """The LiteRT file that serves."""

    url: str
    name: str
    bytes: int
    sha256: str


class Tensor(TypedDict):
    """What goes in or comes out."""

    dtype: Literal["uint8", "float32"]
    shape: list[int | None]
    optional: NotRequired[bool]


class Signature(TypedDict):
    """How the file is run."""

    name: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


class Sample(TypedDict):
    """A photo to try the model on."""

    url: str
    label: str
    media_type: str
    bytes: int


class Model(TypedDict):
    """What serves."""

    name: str
    version: str
    channel: str
    task: str
    fallback: NotRequired[Fallback]
    labels: list[str]
    input: Input
    file: File
    signature: Signature
    metrics: dict[str, Any]
    thresholds: dict[str, float]
    tta: dict[str, Any]
    variant: str
    created_at: str
    since: NotRequired[str]
    notice: NotRequired[str]
    no_gradcam: NotRequired[str]
    samples: NotRequired[list[Sample]]
    card: NotRequired[str]
    feedback: NotRequired[bool]


class OneModel(TypedDict):
    """One of the models that may be asked for."""

    name: str
    url: str
    version: NotRequired[str]
    channel: NotRequired[str]
    labels: NotRequired[int]
    created_at: NotRequired[str]
    notice: NotRequired[str]
    access: NotRequired[Literal["public", "auth", "app-check", "auth+app-check"]]
    problem: NotRequired[Problem]


class Models(TypedDict):
    """The models that may be asked for, the default first."""

    default: str
    models: list[OneModel]
    litert_js: NotRequired[str]


class Overlay(NamedTuple):
    """What speaks for a label, as a picture over the photo: a file's bytes and their media type."""

    image: bytes
    media_type: str
    label: str
    confidence: float
    version: str | None


@dataclass(frozen=True)
class Described:
    """What serves, as it was when it was asked for."""

    etag: str
    model: Model


@dataclass(frozen=True)
class Downloaded(Described):
    """The LiteRT file that serves, verified."""

    content: bytes


class ProblemError(Exception):
    """The server said that something is wrong: RFC 9457.

    Attributes:
        problem: what it said; of what was not Pointer, made of the status.
        status: of the reply.
        slug: the last part of the problem's type, such as `invalid-image`; empty where it was not Pointer's.
        retry_after: seconds to wait before the same is asked again, where that is known.
    """

    def __init__(self, problem: Problem, retry_after: float | None = None) -> None:
        super().__init__(problem["detail"])
        self.problem = problem
        self.status = problem["status"]
        known = re.fullmatch(r"urn:pointer:problem:(.+)", problem["type"])
        self.slug = known[1] if known else ""
        self.retry_after = retry_after


class DamagedError(Exception):
    """What was downloaded is not what was announced. What was downloaded before still works."""


class Cancelled(Exception):
    """The caller wants no answer any more."""


class _Reply(NamedTuple):
    status: int
    headers: Mapping[str, str]
    content: bytes


class Client:
    """Calls one function of Pointer.

    Every call raises, besides what it says itself:

    - `ProblemError` where the server refuses. A 503 or 429 is first asked again, after its Retry-After, until the
      deadline.
    - `TimeoutError` where no answer came before the deadline.
    - `Cancelled` as soon as the event `cancel` is set. A request under way is let go of, and its answer thrown away.
    - `requests.RequestException` where the server cannot be reached.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        id_token: Token | None = None,
        app_check_token: Token | None = None,
        deadline: float = 60.0,
        session: requests.Session | None = None,
    ) -> None:
        """Make a client; nothing is sent yet.

        Args:
            url: where the function is, such as `https://example.web.app/api`.
            model: which is asked, of those that `models` names; by default the server's default.
            id_token: gives a Firebase ID token, where ACCESS asks for one.
            app_check_token: gives an App Check token, where ACCESS asks for one.
            deadline: seconds that a call may take with all its attempts; of a download, each part.
            session: with settings of your own, such as proxies.

        Raises:
            ValueError: tokens would be sent in the clear.
        """
        address = urlsplit(url)
        own = address.hostname in ("localhost", "127.0.0.1", "::1")
        if (id_token or app_check_token) and address.scheme != "https" and not own:
            raise ValueError(
                f"Expected an https:// address for the tokens; received {address.scheme}://{address.netloc}."
            )
        self._api = url.rstrip("/") + "/"
        self._model = model
        self._tokens = {"Authorization": ("Bearer ", id_token), "X-Firebase-AppCheck": ("", app_check_token)}
        self._deadline = deadline
        self._session = session or requests.Session()

    def predict(
        self,
        photo: Photo,
        *,
        top_k: int | None = None,
        gradcam: bool | str = False,
        occlusion: bool = False,
        gradcam_format: Literal["jpeg", "png", "webp", "heatmap"] | None = None,
        gradcam_size: int | None = None,
        tta: Literal["mirror", "crops", "all"] | None = None,
        consent: bool = False,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Prediction:
        """Classify a photo.

        Args:
            photo: a path, a file's bytes, or a file that was opened to read bytes.
            top_k: how many labels to list, 1 to 100; 5 by default.
            gradcam: True explains the most probable label; a label explains that one.
            occlusion: explain by hiding one part after another, which works for any model, at 64 more forward passes.
            gradcam_format: of the overlay; `heatmap` is the bare map.
            gradcam_size: longest side of the overlay in pixels, 32 to 2048.
            tta: average over several views of the photo.
            consent: the user agrees that the photo may be kept, to learn from.
            deadline: seconds, instead of the client's.
            cancel: set it, from another thread, to end the call.
        """
        query = _query(top_k, gradcam, occlusion, gradcam_format, gradcam_size, tta, consent)
        reply: Prediction = _json(self._photos([photo], query, deadline, cancel))
        return reply

    def predict_several(
        self,
        photos: Sequence[Photo],
        *,
        top_k: int | None = None,
        gradcam: bool | str = False,
        tta: Literal["mirror", "crops", "all"] | None = None,
        consent: bool = False,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Predictions:
        """Classify photos, in their order: a prediction or a problem for each, all by one version.

        The server says how many it takes, 8 unless MAX_PHOTOS is another number. Of one photo alone the problem is
        raised, as by `predict`.

        Args as of `predict`.

        Raises:
            ValueError: there is none.
        """
        if not photos:
            raise ValueError("Expected one photo or more; received none.")
        query = _query(top_k, gradcam, False, None, None, tta, consent)
        reply = _json(self._photos(photos, query, deadline, cancel))
        return reply if len(photos) > 1 else _as_several(reply)

    def explain(
        self,
        photo: Photo,
        label: str | None = None,
        *,
        occlusion: bool = False,
        gradcam_format: Literal["jpeg", "png", "webp", "heatmap"] | None = None,
        gradcam_size: int | None = None,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Overlay:
        """Return what speaks for a label, by default the most probable one, as a picture.

        Args as of `predict`.
        """
        query = _query(None, label if label is not None else True, occlusion, gradcam_format, gradcam_size, None, False)
        reply = self._photos([photo], query, deadline, cancel, accept="image/*")
        return Overlay(
            reply.content,
            reply.headers["Content-Type"],
            unquote(reply.headers["X-Pointer-Label"]),
            float(reply.headers["X-Pointer-Confidence"]),
            reply.headers.get("X-Pointer-Version"),
        )

    def feedback(
        self, correction: Correction, *, deadline: float | None = None, cancel: threading.Event | None = None
    ) -> Corrected:
        """Say what a photo shows. The same said again is the same correction."""
        reply: Corrected = _json(self._send("POST", "feedback", deadline, cancel, json=dict(correction)))
        return reply

    def model(
        self,
        kept: Described | None = None,
        *,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Described:
        """Return what serves: `kept` itself where that is still it."""
        known = {"If-None-Match": kept.etag} if kept else {}
        reply = self._send("GET", "model", deadline, cancel, headers=known)
        if kept is not None and reply.status == 304:
            return kept
        return Described(reply.headers["ETag"], _json(reply))

    def models(self, *, deadline: float | None = None, cancel: threading.Event | None = None) -> Models:
        """Return which models may be asked for."""
        reply: Models = _json(self._send("GET", "models", deadline, cancel))
        return reply

    def model_file(
        self,
        kept: Downloaded | None = None,
        *,
        progress: Callable[[int, int], None] = lambda received, total: None,
        deadline: float | None = None,
        cancel: threading.Event | None = None,
    ) -> Downloaded:
        """Download the LiteRT file that serves, in parts, and compare its hash; `kept` itself where that is still it.

        Args:
            kept: what was downloaded before.
            progress: is told how many bytes of how many are there.
            deadline: seconds for each part, instead of the client's.
            cancel: see `predict`.

        Raises:
            DamagedError: the hash is another one.
        """
        for attempt in range(1, ATTEMPTS + 1):
            described = self.model(kept, deadline=deadline, cancel=cancel)
            if kept is not None and described is kept:
                return kept
            file = described.model["file"]
            if kept is not None and kept.model["file"]["sha256"] == file["sha256"]:
                return Downloaded(described.etag, described.model, kept.content)
            try:
                content = self._parts(file, progress, deadline, cancel)
            except ProblemError as error:
                if error.status != 412 or attempt == ATTEMPTS:
                    raise
                continue
            found = hashlib.sha256(content).hexdigest()
            if found != file["sha256"]:
                raise DamagedError(f"Expected the SHA-256 {file['sha256']}; received {found}.")
            return Downloaded(described.etag, described.model, content)
        raise AssertionError("the last attempt returns or raises")

    def _parts(
        self,
        file: File,
        progress: Callable[[int, int], None],
        deadline: float | None,
        cancel: threading.Event | None,
    ) -> bytes:
        content = bytearray()
        while len(content) < file["bytes"]:
            at = len(content)
            asked = {
                "Range": f"bytes={at}-{at + PART - 1}",
                "If-Match": f'"{file["sha256"]}"',
                "Accept-Encoding": "identity",
            }
            reply = self._send("GET", file["url"], deadline, cancel, headers=asked)
            received, told = len(reply.content), reply.headers.get("Content-Range", "all of it")
            whole = f"bytes {at}-{at + received - 1}/{file['bytes']}"
            if reply.status != 206 or not received or told != whole:
                raise DamagedError(
                    f"Expected {file['bytes']} bytes from {at} on; received {received} ({told}). Try again later."
                )
            content += reply.content
            progress(len(content), file["bytes"])
        return bytes(content)

    def _photos(
        self,
        photos: Sequence[Photo],
        query: dict[str, str],
        deadline: float | None,
        cancel: threading.Event | None,
        accept: str = "application/json",
    ) -> _Reply:
        files = [("image", ("photo", _content(photo), "application/octet-stream")) for photo in photos]
        return self._send("POST", "", deadline, cancel, params=query, files=files, headers={"Accept": accept})

    def _send(
        self,
        method: str,
        path: str,
        deadline: float | None,
        cancel: threading.Event | None,
        *,
        headers: Mapping[str, str] | None = None,
        params: dict[str, str] | None = None,
        **body: Any,
    ) -> _Reply:
        """Send a request until it is answered by something else than "later", or until the deadline."""
        until = time.monotonic() + (self._deadline if deadline is None else deadline)
        asked = dict(params or {})
        if self._model and path != "models" and "?" not in path:
            asked["model"] = self._model
        attempt, refresh = 0, False
        while True:
            sent = {**(headers or {}), **self._token_headers(refresh)}
            reply = self._once(method, urljoin(self._api, path), until, cancel, headers=sent, params=asked, **body)
            if reply.status < 400:
                return reply
            error = _problem(reply)
            if error.status == 401 and not refresh and any(token for _, token in self._tokens.values()):
                refresh = True
                continue
            seconds = _wait_before(error, attempt)
            if seconds is None or time.monotonic() + seconds >= until:
                raise error
            if (cancel or threading.Event()).wait(seconds):
                raise Cancelled(f"{method} {path or '/'} was cancelled.")
            attempt += 1

    def _once(self, method: str, url: str, until: float, cancel: threading.Event | None, **request: Any) -> _Reply:
        def ask() -> _Reply:
            left = max(0.001, until - time.monotonic())
            late = f"Expected an answer of {url} before the deadline; none came."
            content = bytearray()
            try:
                with self._session.request(method, url, timeout=left, stream=True, **request) as reply:
                    for block in reply.iter_content(BLOCK):
                        content += block
                        if time.monotonic() > until:
                            raise TimeoutError(late)
                        if cancel is not None and cancel.is_set():
                            raise Cancelled(f"{method} {url} was cancelled.")
                    return _Reply(reply.status_code, reply.headers, bytes(content))
            except requests.RequestException as error:
                if isinstance(error, requests.Timeout) or time.monotonic() >= until:
                    raise TimeoutError(late) from error
                raise

        return ask() if cancel is None else _unless(cancel, ask)

    def _token_headers(self, refresh: bool) -> dict[str, str]:
        given = {name: (scheme, token(refresh)) for name, (scheme, token) in self._tokens.items() if token}
        return {name: f"{scheme}{token}" for name, (scheme, token) in given.items() if token}


def _content(photo: Photo) -> bytes:
    if isinstance(photo, bytes):
        return photo
    if isinstance(photo, str | os.PathLike):
        return Path(photo).read_bytes()
    content: Any = photo.read()
    if not isinstance(content, bytes):
        kind = type(content).__name__
        raise TypeError(f"Expected a file that gives bytes; received one that gives {kind}. Open it with 'rb'.")
    return content


def _as_several(reply: Prediction) -> Predictions:
    """Return the reply to one photo as one to several of which there is one."""
    of_all = ("model", "request_id")
    result = {"index": 0, **{name: value for name, value in reply.items() if name not in of_all}}
    return {"results": [cast(PhotoResult, result)], "model": reply["model"], "request_id": reply["request_id"]}


def _query(
    top_k: int | None,
    gradcam: bool | str,
    occlusion: bool,
    gradcam_format: str | None,
    gradcam_size: int | None,
    tta: str | None,
    consent: bool,
) -> dict[str, str]:
    which = f"label:{gradcam}" if isinstance(gradcam, str) else ""  # a label may be "1" itself
    explained = which or ("1" if gradcam else "")
    if occlusion:
        explained = f"occlusion:{which}" if which else "occlusion"
    values = {
        "top_k": top_k,
        "gradcam": explained or None,
        "gradcam_format": gradcam_format,
        "gradcam_size": gradcam_size,
        "tta": tta,
        "consent": "1" if consent else None,
    }
    return {name: str(value) for name, value in values.items() if value is not None}


def _json(reply: _Reply) -> Any:
    return json.loads(reply.content)


def _problem(reply: _Reply) -> ProblemError:
    retry_after = _seconds(reply.headers.get("Retry-After"))
    if reply.headers.get("Content-Type", "").startswith("application/problem+json"):
        return ProblemError(_json(reply), retry_after)
    detail = f"Expected an answer of Pointer; received status {reply.status} from something before it."
    return ProblemError({"type": "about:blank", "title": "", "status": reply.status, "detail": detail}, retry_after)


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After, which is seconds or a date (RFC 9110)."""
    if retry_after is None:
        return None
    if retry_after.strip().isdigit():
        return float(retry_after)
    try:
        return parsedate_to_datetime(retry_after).timestamp() - time.time()
    except ValueError:
        return None


def _wait_before(error: ProblemError, attempt: int) -> float | None:
    """Return the seconds to wait; None where asking again is of no use."""
    if error.status not in (429, 503):
        return None
    seconds = error.retry_after
    if seconds is None:
        if error.slug:
            return None
        seconds = float(2**attempt)  # Google's front end says no time where it has no instance free
    return max(0.0, seconds) * random.uniform(1, 1.25)  # noqa: S311  # so that not all come back at once


def _unless(cancel: threading.Event, ask: Callable[[], _Answer]) -> _Answer:
    """Ask in a thread, so that waiting for the answer ends as soon as the event is set."""
    answers: list[_Answer] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(ask())
        except BaseException as error:  # noqa: BLE001  # raised where it is waited for
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        if cancel.wait(0.02):
            raise Cancelled("The request was cancelled; its answer is thrown away.")
    if errors:
        raise errors[0]
    return answers[0]
