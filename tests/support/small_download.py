"""Downloads a small archive in Food-101's place: python -m tests.support.small_download URL SIZE SHA256 FOLDER."""

from __future__ import annotations

import sys
from pathlib import Path

import requests  # noqa: F401  # imported once, where this is forked many times
from rich.console import Console

from trainer.download import datasets
from trainer.download.transfer import RemoteFile


def main() -> None:
    url, size, sha256, folder = sys.argv[1:]
    datasets.FOOD_101 = RemoteFile(url, int(size), sha256)
    datasets.download_food_101(Path(folder), Console(stderr=True), pause=0.01)


if __name__ == "__main__":
    main()
