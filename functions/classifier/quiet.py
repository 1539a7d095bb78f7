"""Keeps native libraries from remarking on themselves between the lines of a command."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from classifier.errors import PointerError


@contextmanager
def quiet(*, tell_on_error: bool = False) -> Iterator[None]:
    """Hold back what is written to standard error, also by native code: LiteRT and TensorFlow have no switch for it.

    For commands, not for a server: the descriptor belongs to the whole process.

    Args:
        tell_on_error: whether it is passed on when the block raises what nobody expected.
    """
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield
        except Exception as error:
            if tell_on_error and not isinstance(error, PointerError):
                said.seek(0)
                os.write(kept, said.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def write_what_can_be_written() -> None:
    """Let a terminal that is not UTF-8 get escapes for what it cannot show, instead of this program a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
