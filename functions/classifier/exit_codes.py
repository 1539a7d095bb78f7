"""One table from errors to the exit codes of the command lines."""

from __future__ import annotations

from classifier.errors import (
    Conflict,
    Corrupt,
    InvalidImage,
    InvalidRequest,
    InvalidSetting,
    MissingStore,
    NotFound,
    NotReady,
    Overloaded,
    PointerError,
    RateLimited,
    Refused,
    TooLarge,
    Unavailable,
)

EXIT_CODES: tuple[tuple[type[PointerError], int], ...] = (
    (InvalidRequest, 2),
    (InvalidSetting, 2),
    (InvalidImage, 2),
    (TooLarge, 2),
    (NotFound, 3),
    (NotReady, 3),
    (MissingStore, 3),
    (Conflict, 4),
    (Refused, 5),
    (Corrupt, 5),
    (Unavailable, 6),
    (Overloaded, 6),
    (RateLimited, 7),
    (PointerError, 1),
)
"""Usage 2, not found 3, conflict 4, refused 5, store or server out of reach
or overloaded 6, asked too often 7; the first match counts."""


def exit_code(error: PointerError) -> int:
    """Return the exit code of an error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))
