"""The names that a manifest may list."""


def check_name(name: str) -> None:
    """Allow each: what is stored was checked when it was published."""
