"""Every error that Pointer raises on purpose: one base class, one child for each thing a caller can do about it.

    PointerError
    ├── InvalidRequest        the request cannot be understood: mend the request
    │   ├── UnsupportedMedia  its media type is not one that is read here
    │   ├── CannotExplain     the model has no such explanation: ask for another kind, or for none
    │   └── Forbidden         it names something that the settings do not allow
    ├── InvalidImage          the bytes are not a photo that can be read: send another photo
    ├── TooLarge              the photo has too many bytes or pixels, or takes too much memory: send a smaller one
    ├── TooSlow               it did not arrive in time: send it again, smaller or over a better network
    ├── NotFound              no such object, version or model
    ├── NotReady              nothing has been promoted yet: an operator has to act
    ├── Conflict              somebody else was faster: look again, then decide
    │   └── PreconditionFailed  a conditional write found another generation than it expected
    ├── Refused               a rule of the store forbids it (an unverified promotion, nothing to roll back to)
    ├── Corrupt               stored data is not what its manifest promises
    │   └── InvalidManifest   a manifest or pointer that cannot be used, with the field's name
    ├── Unauthenticated       who calls could not be established: send valid tokens
    ├── RateLimited           this caller asked too often: try again in ``retry_after`` seconds
    ├── Unavailable           the store cannot be reached: try again later
    │   ├── MissingStore        there is no such bucket: an operator has to act
    │   ├── Denied              the store does not let this account do that: an operator has to act
    │   └── AccessUnavailable   what tokens are checked against cannot be reached: try again later
    ├── Overloaded            too many requests at once: try again in ``retry_after`` seconds
    └── InvalidSetting        an environment variable or option has a value that cannot be used

A message says what was expected, what came and the remedy. This module knows no HTTP and no exit codes:
``problems.py`` maps each class to a status, ``admin_cli/main.py`` to an exit code, each in one table.
"""

from __future__ import annotations


class PointerError(Exception):
    """Base class; ``str(error)`` is a full sentence for the person who made the request."""


class InvalidRequest(PointerError):
    """The request cannot be understood."""


class UnsupportedMedia(InvalidRequest):
    """The request's body has a media type that is not read here."""


class CannotExplain(InvalidRequest):
    """The request asks for an explanation that the model that answers does not have."""


class Forbidden(InvalidRequest):
    """The request names something that the settings do not allow."""


class InvalidImage(PointerError):
    """The bytes are not a photo that can be read."""


class TooLarge(PointerError):
    """The photo is over the limit of bytes, of pixels or of memory."""


class TooSlow(PointerError):
    """The request did not arrive in time."""


class NotFound(PointerError):
    """No such object, version or model."""


class NotReady(PointerError):
    """Nothing has been promoted yet."""


class Conflict(PointerError):
    """Somebody else changed the same thing first."""


class PreconditionFailed(Conflict):
    """A conditional write found another generation than it expected."""


class Refused(PointerError):
    """A rule forbids the change; nothing was changed."""


class Corrupt(PointerError):
    """Stored data is not what its manifest promises; ``store`` is where, for operators, and not in the message."""

    def __init__(self, message: str, *, store: str = "") -> None:
        super().__init__(message)
        self.store = store


class InvalidManifest(Corrupt):
    """A manifest or pointer cannot be used; ``field`` names the part at fault."""

    def __init__(self, message: str, *, field: str, store: str = "") -> None:
        super().__init__(message, store=store)
        self.field = field


class Unauthenticated(PointerError):
    """Who calls could not be established.

    Attributes:
        wanted: the tokens that are asked for: "id-token", "app-check".
        reason: why, for the log; never told to the caller.
    """

    def __init__(self, message: str, *, wanted: tuple[str, ...], reason: str) -> None:
        super().__init__(message)
        self.wanted = wanted
        self.reason = reason


class RateLimited(PointerError):
    """One caller asked too often; try again in ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(PointerError):
    """The store cannot be reached."""


class MissingStore(Unavailable):
    """The bucket that a store is in does not exist; whoever asks a function can only try again later."""


class Denied(Unavailable):
    """The store does not let the account do that; whoever asks a function can only try again later."""


class AccessUnavailable(Unavailable):
    """What tokens are checked against (keys, accounts) cannot be reached."""


class Overloaded(PointerError):
    """Too many requests at once; try again in ``retry_after`` seconds."""

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class InvalidSetting(PointerError):
    """A setting has a value that cannot be used."""
