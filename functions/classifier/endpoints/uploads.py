"""Labels the photos that are put into a bucket: each gets ``<name>.labels.json`` beside it.

The platform delivers an event at least once, late, in any order and several at a time. So a result records which
generation of the photo it is of, and is written create-only or by compare-and-swap: an event that is repeated, or
overtaken by a newer photo of the same name, changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from classifier.endpoints.problems import body_of_problem
from classifier.errors import (
    InvalidImage,
    InvalidRequest,
    NotFound,
    PointerError,
    PreconditionFailed,
    TooLarge,
    Unavailable,
)
from classifier.logs import bind, log
from classifier.photo.limits import Bounded, too_large
from classifier.registry.fields import now
from classifier.serving.predictor import Predictor, log_fields
from classifier.serving.query import Query
from classifier.serving.reply_body import body_of
from classifier.settings import Settings
from classifier.storage.opening import open_bucket
from classifier.storage.protocol import MUST_NOT_EXIST, ObjectStore

RESULT_ENDING = ".labels.json"
PHOTO_ENDINGS = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif", ".heic", ".heif", ".bmp", ".tif", ".tiff")
"""What a photo's name ends with, where its content type says nothing."""
SAYS_NOTHING = ("", "application/octet-stream", "binary/octet-stream", "application/x-www-form-urlencoded")
LARGEST_RESULT = 2**20
"""Bytes that are read of what has a result's name; whatever is larger was not written here."""
TRIES = 5
"""How often one event tries to write its result, while others write the same one."""


@dataclass(frozen=True)
class Upload:
    """One generation of one object, as an event tells of it."""

    bucket: str
    name: str
    generation: int
    size: int
    """Bytes."""
    content_type: str = ""


class Labeller:
    """Answers events. Nothing is read until one has a photo; any thread may call it."""

    def __init__(
        self,
        settings: Settings,
        predictor: Predictor | None = None,
        *,
        open_bucket: Callable[[str], ObjectStore] = open_bucket,
    ) -> None:
        self._settings = settings
        self._predictor = predictor or Predictor(settings)
        self._store = open_bucket(settings.upload_bucket) if settings.upload_bucket else None

    def label(self, upload: Upload, event_id: str) -> None:
        """Write the result of an upload, unless it is none of a photo, or the result is there.

        A photo that cannot be read gets a result that holds the problem, so that nobody waits for a label.

        Raises:
            Unavailable, NotReady, Corrupt, Overloaded: later it may work; the platform delivers the event again.
        """
        bind({"event_id": event_id, "object": upload.name, "generation": upload.generation})
        try:
            self._label(upload)
        except PointerError as error:
            log("WARNING", "The upload could not be labelled yet; its event is to be delivered again.", error=error)
            raise
        finally:
            bind(None)

    def _label(self, upload: Upload) -> None:
        store, name = self._store, upload.name
        if store is None or upload.bucket != self._settings.upload_bucket:
            log("ERROR", "The event is not of UPLOAD_BUCKET.", bucket=upload.bucket)
            return
        # A bucket's other objects, and this function's own results, wake it as well: not a word about them.
        if not name.startswith(self._settings.upload_prefix) or name.endswith(RESULT_ENDING):
            return
        if not is_photo(upload):
            log("INFO", "Ignored an upload that is not a photo.", content_type=upload.content_type)
            return
        result_name = name + RESULT_ENDING
        try:
            recorded, generation = _recorded(store, result_name)
            if recorded >= upload.generation:
                log("INFO", "The upload has been labelled already.", recorded=recorded)
                return
            answer = self._answer(store, upload)
        except InvalidRequest as error:
            # A name that no store holds: no result can be written beside it, now or later.
            log("WARNING", "Ignored an upload whose name cannot be used.", reason=str(error))
            return
        if answer is None:
            log("INFO", "The upload has been deleted or replaced meanwhile.")
            return
        _write(store, result_name, upload, answer, generation)

    def _answer(self, store: ObjectStore, upload: Upload) -> dict[str, Any] | None:
        """Return what the result says, or None where the photo is not there any more."""
        limit = self._settings.max_image_bytes
        try:
            if upload.size > limit:
                raise too_large(limit)
            content = Bounded(limit)
            try:
                if store.download(upload.name, content) != upload.generation:
                    return None
            except NotFound:
                return None
            answer = self._predictor(content.getvalue(), Query())
        except (InvalidImage, TooLarge) as error:
            log("INFO", "The upload cannot be read.", reason=str(error))
            return {"problem": body_of_problem(error)}
        log("INFO", "Predicted.", **log_fields(answer))
        return {"prediction": body_of(answer.prediction, answer.loaded, self._settings.model_name)}


def is_photo(upload: Upload) -> bool:
    """Tell a photo by its content type or, where that says nothing, by its name."""
    media_type = upload.content_type.partition(";")[0].strip().lower()
    if media_type in SAYS_NOTHING:
        return upload.name.lower().endswith(PHOTO_ENDINGS)
    return media_type.startswith("image/")


def _write(store: ObjectStore, name: str, upload: Upload, answer: Mapping[str, Any], generation: int) -> None:
    """Write a result in place of that of an older photo; whoever wrote meanwhile is looked at.

    Raises:
        Unavailable: the store cannot be reached, or others write all the time.
    """
    photo = {"object": upload.name, "generation": str(upload.generation)}
    document = {**answer, "photo": photo, "labelled_at": now()}
    data = (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()
    for _ in range(TRIES):
        try:
            store.write(name, data, if_generation=generation, content_type="application/json")
        except PreconditionFailed:
            recorded, generation = _recorded(store, name)
            if recorded >= upload.generation:
                log("INFO", "Another event has labelled the upload.", recorded=recorded)
                return
        else:
            return
    raise Unavailable(f"{name} was written by others {TRIES} times in a row.")


def _recorded(store: ObjectStore, name: str) -> tuple[int, int]:
    """Return the photo's generation that a result is of, and the result's own; 0 where there is none.

    What is no result has the name of one all the same, and is replaced: it counts as that of the oldest photo.
    """
    content = Bounded(LARGEST_RESULT)
    try:
        generation = store.download(name, content)
    except NotFound:
        return 0, MUST_NOT_EXIST
    except TooLarge as error:
        raise InvalidRequest(f"Expected {name} to be a result; it has more than {LARGEST_RESULT:,} bytes.") from error
    try:
        return int(json.loads(content.getvalue())["photo"]["generation"]), generation
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return 0, generation
