"""Lets the app answer a request of another Flask app, whose body may still be on its way."""

from __future__ import annotations

import io
from typing import IO

from flask import Flask, Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_input_stream

from classifier.errors import TooSlow

KEPT = "pointer.kept"
"""In the environ: what a request keeps that begins again; see `connections`."""


def answer(app: Flask, outer: Request) -> Response:
    """Let ``app`` answer a request that has reached another Flask app: the Functions Framework's.

    That one would gather in memory, before the reply, what the app left unread of the body: it sees none. What becomes
    of it is for `connections`.

    Raises:
        NotArrived: see `connections`.
    """
    unread = {"wsgi.input": _Body(get_input_stream(outer.environ)), "wsgi.input_terminated": True}
    kept = getattr(outer.environ.get("gunicorn.socket"), "kept", {})
    with app.request_context({**outer.environ, **unread, KEPT: kept}):
        reply = app.full_dispatch_request()
    outer.environ.update({**unread, "wsgi.input": io.BytesIO()})
    return reply


class _Body:
    """A body as it comes. Where it breaks HTTP's rules the server's own error is an OSError: a 400 like others."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except TimeoutError as error:
            raise TooSlow(
                "Expected the whole request in time; received a part of it. Send it again, smaller or over a better "
                "network."
            ) from error
        except (OSError, HTTPException):
            raise
        except Exception as error:
            raise OSError("The body is broken.") from error
