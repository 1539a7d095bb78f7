"""Tables of photos as people have them: from European Excel, from Windows, with a mark at the start or without."""

from __future__ import annotations

import codecs
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from classifier.errors import InvalidRequest, InvalidSetting, NotFound

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
NAMED_SEPARATORS = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}
MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
WINDOWS = "windows-1252"


class Table(NamedTuple):
    """A table, and what was assumed to read it."""

    frame: pd.DataFrame
    """Texts; an empty cell is NaN."""
    assumed: str | None
    """A line for whoever uses it; None where nothing was."""


def read_table(
    path: Path, columns: Sequence[str], *, separator: str | None = None, encoding: str | None = None
) -> Table:
    """Read a table that has these columns.

    Args:
        path: the file.
        columns: names that its head has.
        separator: what is between columns; None takes that by which the head has the columns.
        encoding: of the text; None takes UTF-8 or UTF-16 where it is that, Windows-1252 otherwise.

    Raises:
        NotFound: there is no such file.
        InvalidSetting: there is no such separator or encoding.
        InvalidRequest: it is no such table, or cannot be told from another; the message names the option that decides.
    """
    if not path.is_file():
        raise NotFound(f"Expected a table {path}; it is missing.")
    text, read_as = _text(path, encoding)
    separator = _separator(separator) if separator else _found_separator(text, columns, path)
    try:
        frame = pd.read_csv(
            io.StringIO(text), sep=separator, dtype=str, keep_default_na=False, na_values=[""], skipinitialspace=True
        )
    except ValueError as error:
        raise InvalidRequest(f"{path} cannot be read as a table of {SEPARATORS[separator]}: {error}") from error
    frame.columns = [str(name).strip() for name in frame.columns]
    missing = [name for name in columns if name not in frame]
    if missing:
        raise InvalidRequest(f"Expected columns {list(columns)} in {path}; received {list(frame.columns)}.")
    between = f"{SEPARATORS[separator]} between columns" if separator != "," else None
    assumed = [each for each in (between, read_as) if each]
    return Table(frame, f"{path.name} was read with {' and '.join(assumed)}" if assumed else None)


def _text(path: Path, encoding: str | None) -> tuple[str, str | None]:
    """Return a file's text, and what was assumed of its encoding if it is not UTF-8."""
    content = path.read_bytes()
    if encoding is not None:
        try:
            return content.decode(encoding).removeprefix("\ufeff"), None
        except LookupError as error:
            raise InvalidSetting(
                f"Expected --encoding to name one such as utf-8 or windows-1252; received {encoding!r}, which is none."
            ) from error
        except UnicodeError as error:
            raise InvalidRequest(f"{path} is not {encoding}: {error}. Name another one with --encoding.") from error
    marked = next((name for mark, name in MARKS if content.startswith(mark)), None)
    # Without a mark: of UTF-16 every other byte of plain letters is 0, which no other text has.
    head = content[:1000]
    zeros = (head[0::2].count(0), head[1::2].count(0))
    if marked is None and max(zeros) > len(head) / 4:
        marked = "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    name = marked or "utf-8"
    try:
        return content.decode(name), "text in UTF-16" if name.startswith("utf-16") else None
    except UnicodeDecodeError as error:
        if marked is not None:
            raise InvalidRequest(f"{path} begins as {name} and is not: {error}. Name it with --encoding.") from error
    try:
        return content.decode(WINDOWS), "text in Windows-1252, as it is not UTF-8 (--encoding names another one)"
    except UnicodeDecodeError as error:
        raise InvalidRequest(
            f"{path} is text neither in UTF-8 nor in Windows-1252: {error}. Name its encoding with --encoding."
        ) from error


def _separator(given: str) -> str:
    separator = NAMED_SEPARATORS.get(given, given)
    if separator not in SEPARATORS:
        raise InvalidSetting(f"Expected --separator to be one of , ; tab |; received {given!r}.")
    return separator


def _found_separator(text: str, columns: Sequence[str], path: Path) -> str:
    """Return the separator by which the head has the columns."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    heads = {each: [name.strip().strip('"').strip() for name in head.split(each)] for each in SEPARATORS}
    fitting = [each for each, names in heads.items() if set(columns) <= set(names)]
    if len(fitting) > 1 and len(columns) > 1:
        named = " or ".join(SEPARATORS[each] for each in fitting)
        raise InvalidRequest(f"The columns of {path} may be between {named}: say which with --separator.")
    if fitting:
        return fitting[0]
    likeliest = max(heads, key=lambda each: len(heads[each]))
    received = heads[likeliest] if len(heads[likeliest]) > 1 else [head[:80]]
    raise InvalidRequest(f"Expected columns {list(columns)} in {path}; received {received}.")
