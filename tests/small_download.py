"""Downloads a small archive in Food-101's place: python -m tests.small_download URL SIZE SHA256 FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import requests  # noqa: F401  # imported once, where this is forked many times
from rich.console import Console

from trainer import download
from trainer.download_transfer import RemoteFile


def main() -> None:
    url, size, sha256, folder = sys.argv[1:]
    download.FOOD_101 = RemoteFile(url, int(size), sha256)
    download.download_food_101(Path(folder), Console(stderr=True), pause=0.01)


if __name__ == "__main__":
    main()
