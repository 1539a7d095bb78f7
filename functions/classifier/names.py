"""Which object names are safe in every store."""

from __future__ import annotations

from classifier.errors import InvalidRequest

LOCK_FILE = ".lock"
TEMPORARY_FOLDER = ".tmp"
MAX_NAME_BYTES = 1024
MAX_SEGMENT_BYTES = 255


def check_name(name: str) -> None:
    """Refuse a name that could point outside the store or that one of the stores cannot hold.

    Raises:
        InvalidRequest: with the reason.
    """
    try:
        length = len(name.encode())
        segments = name.split("/")
        longest = max(len(segment.encode()) for segment in segments)
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"Expected an object name that is valid Unicode; received {name!r}.") from error
    if not name:
        reason = "is empty"
    elif any(segment in ("", ".", "..") for segment in segments):
        reason = 'has an empty, "." or ".." segment'
    elif "\\" in name:
        reason = "has a backslash"
    elif not name.isprintable():
        reason = "has a character that cannot be printed"
    elif segments[0] in (LOCK_FILE, TEMPORARY_FOLDER):
        reason = f"starts with {segments[0]!r}, which the store keeps for itself"
    elif length > MAX_NAME_BYTES or longest > MAX_SEGMENT_BYTES:
        reason = f"has more than {MAX_NAME_BYTES} bytes, or more than {MAX_SEGMENT_BYTES} between slashes"
    else:
        return
    raise InvalidRequest(f'Expected an object name such as "uploads/cat.jpg"; received {name[:200]!r}, which {reason}.')


def check_prefix(prefix: str) -> None:
    """Refuse a listing's prefix whose folder part is not a safe name.

    Raises:
        InvalidRequest: with the reason.
    """
    folder = prefix.rpartition("/")[0]
    if folder or prefix.startswith("/"):
        check_name(folder)
