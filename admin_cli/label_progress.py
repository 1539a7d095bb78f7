"""How far a labelling is: photos, photos a second, the time that is left and what it costs."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from admin_cli.output import print_text
from classifier.wording import plural

PLAIN_EVERY = 30.0
"""Seconds between two lines, where the output is no terminal."""


class Progress:
    """A bar in a terminal, a line now and then elsewhere.

    Args:
        price: US dollars for an hour of one worker; 0 where it is not known.
        workers: how many there are; None where the runner decides.
        shown: whether anything is shown.
    """

    def __init__(self, price: float, workers: int | None, *, shown: bool) -> None:
        self._price = price
        self._workers = workers
        self._shown = shown
        self._bar: Any = None
        self._task: Any = None
        self._plain_after = 0.0
        self.todo = self.done = 0
        self.seconds = 0.0
        self._first: tuple[int, float] | None = None
        """What was done when the first were, and when: workers take seconds to start, on a cluster minutes."""

    @property
    def rate(self) -> float:
        """Photos a second, of all workers, since the first were done."""
        done, since = self._first or (0, 0.0)
        if self.done > done and self.seconds > since:
            return (self.done - done) / (self.seconds - since)
        return self.done / self.seconds if self.seconds else 0.0

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.end()

    def begin(self, todo: int) -> None:
        """Show how much there is to do."""
        self.todo = todo
        if not (todo and self._shown and sys.stdout.isatty()):
            return
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn
        from rich.progress import Progress as Bar

        self._bar = Bar(
            BarColumn(20), TextColumn("{task.description}"), console=Console(highlight=False), transient=True
        )
        self._task = self._bar.add_task("starting the workers", total=todo)
        self._bar.start()

    def move(self, done: int, seconds: float) -> None:
        """Show how much is done."""
        self.done, self.seconds = done, seconds
        if done and self._first is None:
            self._first = done, seconds
        if not done or not self._shown:
            return
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=self._line())
        elif seconds >= self._plain_after and done < self.todo and not sys.stdout.isatty():
            self._plain_after = seconds + PLAIN_EVERY
            print_text(self._line())

    def end(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def told(self) -> Iterator[str]:
        """Yield what all of it took, and what a million photos would."""
        if not self.rate:
            return
        rate = self.rate
        yield f"{self.done:,} labelled in {duration(self.seconds)}, {rate:.1f} photos/s"
        if self._workers is None:
            return
        hours = 1e6 / rate / 3600 * self._workers
        cost = f", about ${hours * self._price:,.2f}" if self._price else "; --price gives their cost"
        yield f"a million at this speed: {hours:,.1f} worker hours{cost}"

    def _line(self) -> str:
        rate = self.rate
        left = (self.todo - self.done) / rate if rate else 0.0
        line = f"{self.done:,} of {self.todo:,}  {rate:.1f}/s  {duration(left)} left"
        if self._price and self._workers is not None and rate:
            line += f"  ${self.todo / rate / 3600 * self._workers * self._price:,.2f} in all"
        return line


def print_listed(event: Mapping[str, Any], version: str, *, sample: int) -> None:
    """Print what there is, what is done already, and what has changed since."""
    listed, todo = event["listed"], event["todo"]
    what = f"a sample of {plural(listed, 'photo')}" if sample else plural(listed, "photo")
    print_text(f"{what}, {listed - todo:,} labelled before, {todo:,} to label")
    for count, paths, said in (
        (
            event["changed"],
            event["changed_paths"],
            "changed since {version} labelled them; their new bytes are labelled",
        ),
        (event["deleted"], event["deleted_paths"], "gone since {version} labelled them; their rows stay"),
        (event["missing"], event["gone"], "in the table and not there"),
        (event["twice"], (), "named more than once"),
        (event["folders"], (), "objects that stand for folders, passed over"),
        (event["others"], (), "files not named as photos, passed over; a pattern such as FOLDER/** takes them"),
    ):
        if count:
            such = f", such as {', '.join(paths[:2])}" if paths else ""
            print_text(f"{count:,} {said.format(version=version)}{such}")


def duration(seconds: float) -> str:
    """Return a time as people say it."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
