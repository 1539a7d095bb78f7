"""A request's query string and headers as a `Query`, and what is said of values that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from classifier.errors import InvalidRequest
from classifier.serving.query import MEDIA_TYPES, ON, Query, query_of

if TYPE_CHECKING:  # a command line has queries too, and no Flask
    from flask import Request


JSON = "application/json"
MODEL = "model"
PARAMETERS = ("top_k", "gradcam", "gradcam_format", "gradcam_size", "tta", "consent", MODEL)


def options_in_address(request: Request) -> dict[str, str]:
    """Return the options of the address, each of which is checked by itself: others may come with the body.

    Raises:
        InvalidRequest: an unknown or repeated parameter, or a value that cannot be used.
    """
    for name, values in request.args.lists():
        if name not in PARAMETERS:
            raise InvalidRequest(f"Expected the parameters {', '.join(PARAMETERS)}; received {name!r}.")
        if len(values) > 1:
            raise InvalidRequest(f"Expected {name} once; received it {len(values)} times.")
    options = request.args.to_dict()
    query_of({"gradcam": ON[0], **options})
    return options


def read_query(request: Request, in_address: Mapping[str, str], in_body: Mapping[str, str]) -> Query:
    """Read and check the options of the address and those beside the photo, together.

    Raises:
        InvalidRequest: an option that came twice, or a value that cannot be used.
        NotAcceptable: the Accept header leaves nothing that could be sent.
    """
    if twice := sorted(in_address.keys() & in_body):
        raise InvalidRequest(f"Expected {twice[0]} once; received it in the address and beside the photo.")
    options = {**in_address, **in_body}
    query = query_of(options)
    choice, bare = _accepted(request, query, options.get("gradcam_format"))
    return replace(query, gradcam_format=choice, bare=bare)


def query_for_several(request: Request, query: Query) -> Query:
    """Return a request's query for several photos, whose reply is JSON whatever else is preferred.

    Raises:
        NotAcceptable: the Accept header allows no JSON.
    """
    from werkzeug.exceptions import NotAcceptable

    if query.bare and not request.accept_mimetypes[JSON]:
        raise NotAcceptable(
            f"Expected Accept to allow {JSON} for several photos; received {request.accept_mimetypes.to_header()}. "
            "The overlay itself is the reply to one photo only."
        )
    return replace(query, bare=False)


def _accepted(request: Request, query: Query, asked: str | None) -> tuple[str, bool]:
    """Return the overlay's format, and whether it is the whole reply, from gradcam_format and Accept."""
    from werkzeug.exceptions import NotAcceptable

    accept, gradcam = request.accept_mimetypes, query.gradcam is not None
    formats = [asked] if asked else ["jpeg", "png", "webp"]
    offered = [JSON, *(MEDIA_TYPES[name] for name in formats)] if gradcam else [JSON]
    best = accept.best_match(offered) if accept else JSON
    if best is None:
        raise NotAcceptable(
            f"Expected Accept to allow one of {', '.join(offered)}; received {accept.to_header()}."
            + ("" if gradcam else " To have the overlay itself, add gradcam=1.")
        )
    if best == JSON:
        return asked or Query.gradcam_format, False
    return asked or next(name for name in formats if MEDIA_TYPES[name] == best), True
