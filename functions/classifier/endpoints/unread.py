"""Lets the app answer a request of another Flask app, and throws away what it left unread of the body."""

from __future__ import annotations

import io
import socket
import threading
from contextlib import suppress
from contextvars import copy_context
from typing import IO

from flask import Flask, Request, Response
from werkzeug.exceptions import HTTPException
from werkzeug.wsgi import get_input_stream

from classifier.logs import log

DISCARDED_AT_MOST = 64 * 2**20
DISCARDED_WITHIN = 10.0


def answer(app: Flask, outer: Request) -> Response:
    """Let ``app`` answer a request that has reached another Flask app: the Functions Framework's.

    What the app left unread of the body is read in blocks and thrown away after the reply was sent, so that the client
    gets to read the reply; the framework itself would gather all of it in memory, before the reply.
    """
    body = _Body(get_input_stream(outer.environ))
    terminated = {"wsgi.input": body, "wsgi.input_terminated": True}
    with app.request_context({**outer.environ, **terminated}):
        reply = app.full_dispatch_request()
        context = copy_context()  # of the request, for the lines that are written after it
    outer.environ.update({**terminated, "wsgi.input": io.BytesIO()})
    has_body = outer.content_length or "Transfer-Encoding" in outer.headers
    if has_body and not (outer.method == "POST" and reply.status_code == 200):  # a prediction has read its photo
        reply.call_on_close(lambda: context.run(_discard, body, outer.environ.get("gunicorn.socket")))
    return reply


class _Body:
    """A body as it comes. Where it breaks HTTP's rules the server's own error is an OSError: a 400 like others."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except (OSError, HTTPException):
            raise
        except Exception as error:
            raise OSError("The body is broken.") from error


def _discard(body: _Body, connection: socket.socket | None) -> None:
    """Read ``body`` to its end; where that is too far or takes too long, shut the connection."""
    watch = threading.Timer(DISCARDED_WITHIN, _shut, [connection])
    watch.start()
    discarded = 0
    try:
        while discarded < DISCARDED_AT_MOST and (block := body.read(2**16)):
            discarded += len(block)
        if discarded >= DISCARDED_AT_MOST:
            _shut(connection)
    except (OSError, HTTPException):
        log("WARNING", "The client left before its request was read.")
    finally:
        watch.cancel()


def _shut(connection: socket.socket | None) -> None:
    with suppress(OSError):  # the client has left by itself
        if connection is not None:  # another server than gunicorn
            connection.shutdown(socket.SHUT_RDWR)
