"""What the reader raises."""


class InvalidManifest(Exception):
    def __init__(self, message: str, *, field: str, store: str = "") -> None:
        super().__init__(message)
        self.field = field


class Corrupt(Exception):
    pass


class InvalidRequest(Exception):
    pass
