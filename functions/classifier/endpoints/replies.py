"""Replies to photos: one prediction as JSON or as its overlay, several with an outcome for each photo, in order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

from flask import Response, g, jsonify

from classifier import errors
from classifier.access.admission import Admission
from classifier.endpoints import counting, request_log
from classifier.endpoints.problems import body_of_problem, kind_of
from classifier.logs import log
from classifier.serving.loader import Chosen, Loaded
from classifier.serving.models import Models
from classifier.serving.prediction import STEPS
from classifier.serving.predictor import Answer, Predictor, log_fields
from classifier.serving.query import Query
from classifier.serving.reply_body import body_of, members_of, model_of
from classifier.variables import MIB

BEGUN_WITHIN = 30.0
"""Seconds after which no further photo of a request is begun; the function's own limit is 60."""
OVERLAYS_AT_MOST = 8 * MIB
"""Bytes of all overlays of a request with several photos: at the end they are in memory together, in base64 too."""


def caller_key() -> str | None:
    """Return by what the caller of the request at hand is known; None where nobody was admitted."""
    caller = g.get("caller")
    return caller.key if caller else None


def admit_model(name: str | None, models: Models, admission: Admission) -> None:
    """Admit the request at hand by the rules of a model that its body names, too; ``g.model`` is that model then.

    Raises what `Admission.admit` raises, and `NotFound`: it may not be asked for.
    """
    if name is not None:
        models.expect(name)
        if name != g.model:
            admission.admit(name)


def reply_to_one(predictor: Predictor, photo: bytes, query: Query) -> Response:
    """Answer a request that has one photo. Raises what `Predictor` raises."""
    loaded = predictor.version_for(photo, caller_key())
    counting.note_version(loaded)
    answer = predictor(photo, query, loaded)
    counting.note_answers([answer])
    request_log.note("INFO", "Predicted.", **log_fields(answer))
    if query.bare:
        reply = _picture(answer)
    else:
        body = body_of(answer.prediction, answer.loaded, predictor.settings.model_name)
        reply = jsonify(**body, request_id=g.request_id)
    add_headers(reply, [answer], answer.loaded)
    return reply


def reply_to_several(predictor: Predictor, photos: Sequence[bytes], query: Query) -> Response:
    """Answer a request that has several photos: each gets its prediction or its own problem, all by one version.

    Raises what concerns all photos, as `Predictor` does: Overloaded only where no photo was classified before.
    """
    loaded = predictor.instance.current(caller_key())
    counting.note_version(loaded)
    results: list[dict[str, Any]] = []
    answers: list[Answer] = []
    for index, outcome in enumerate(_outcomes(predictor, photos, query, loaded)):
        if isinstance(outcome, Answer):
            log("INFO", "Predicted.", index=index, **log_fields(outcome))
            answers.append(outcome)
            results.append({"index": index, **members_of(outcome.prediction)})
        else:
            kind = kind_of(outcome)
            log("WARNING" if kind.status >= 500 else "INFO", f"{kind.title}.", index=index, slug=kind.slug)
            results.append({"index": index, "problem": body_of_problem(outcome)})
    counting.note_answers(answers)
    request_log.note(
        "INFO",
        "Answered several photos.",
        version=loaded.pointer.version,
        photos=len(photos),
        problems=len(photos) - len(answers),
        cache_hits=sum(answer.cache == "hit" for answer in answers),
    )
    reply = jsonify(results=results, model=model_of(loaded, predictor.settings.model_name), request_id=g.request_id)
    add_headers(reply, answers, loaded)
    return reply


def add_headers(reply: Response, answers: Sequence[Answer], chosen: Chosen) -> None:
    """Say how long the steps took, for all photos together, what the result cache did, and whether it is a fallback."""
    times = {step: sum(getattr(answer.prediction, f"{step}_ms") for answer in answers) for step in STEPS}
    reply.headers["Server-Timing"] = ", ".join(f"{step};dur={round(time, 2)}" for step, time in times.items())
    if cache_status := _cache_status(answers):
        reply.headers["Cache-Status"] = cache_status
    tell_fallback(reply, chosen)


def tell_fallback(reply: Response, chosen: Chosen) -> None:
    """Say that another version answers than the pointer names: an item with a parameter, RFC 9651."""
    if chosen.fallback:
        reply.headers["X-Pointer-Fallback"] = f"{chosen.fallback.pointed};reason={chosen.fallback.reason}"


def _outcomes(
    predictor: Predictor, photos: Sequence[bytes], query: Query, loaded: Loaded
) -> Iterator[Answer | errors.PointerError]:
    """Classify one photo after the other; each waits for an interpreter by itself, so that others have their turn.

    Where the service becomes too busy, what is there is not thrown away: the photos that are left have that as their
    problem, and are not tried.
    """
    began = time.monotonic()
    classified, overlays = 0, 0
    for number, photo in enumerate(photos):
        try:
            if time.monotonic() > began + BEGUN_WITHIN:
                spent = f"The photos before this one took {BEGUN_WITHIN:g} s. Send it again."
                raise errors.Overloaded(spent, retry_after=1)
            answer = predictor(photo, query, loaded)
        except errors.Overloaded as error:
            if not classified:
                raise
            yield from [error] * (len(photos) - number)
            return
        except (errors.InvalidImage, errors.TooLarge) as error:
            yield error
            continue
        classified += 1
        size = len(answer.prediction.overlay.content) if answer.prediction.overlay else 0
        if overlays + size > OVERLAYS_AT_MOST:
            yield errors.TooLarge(
                f"Expected overlays of at most {OVERLAYS_AT_MOST:,} bytes for all photos of a request; with this one "
                "they would have more. Ask for smaller ones with gradcam_size, or send fewer photos."
            )
            continue
        overlays += size
        yield answer


def _picture(answer: Answer) -> Response:
    """Shape the overlay as the whole reply; its label is percent-encoded, because headers are ASCII."""
    overlay = answer.prediction.overlay
    if overlay is None:  # `read_query` lets an image be the reply only with gradcam
        raise errors.InvalidRequest("Expected gradcam=1 or gradcam=LABEL for a reply that is an image.")
    reply = Response(overlay.content, content_type=overlay.media_type)
    reply.headers["X-Pointer-Label"] = quote(overlay.label, safe=" ")
    reply.headers["X-Pointer-Confidence"] = f"{overlay.confidence:g}"
    reply.headers["X-Pointer-Version"] = answer.loaded.pointer.version
    return reply


def _cache_status(answers: Sequence[Answer]) -> str:
    """Say what the result cache did, RFC 9211: one member, because there is one cache; "" where it is not used."""
    uses = [answer.cache for answer in answers if answer.cache != "off"]
    if not uses:
        return ""
    hits = uses.count("hit")
    if hits == len(uses):
        return "pointer;hit"
    stored = ";stored" if uses.count("stored") == len(uses) - hits else ""
    if not hits:
        return f"pointer;fwd=miss{stored}"
    return f'pointer;fwd=partial{stored};detail="{hits} of {len(uses)}"'
