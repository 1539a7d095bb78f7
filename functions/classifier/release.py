"""Which release of Pointer this is."""

from __future__ import annotations

from importlib import metadata


def release() -> str:
    """Return the installed release, such as "0.1.0"; "not installed" where the code alone is there."""
    try:
        return metadata.version("pointer")
    except metadata.PackageNotFoundError:
        return "not installed"
