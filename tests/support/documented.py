"""The command lines of the documents: found in their blocks and in their sentences, and taken apart."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

from tests.support.processes import ROOT

PAGES = (
    "README.md",
    "CONTRIBUTING.md",
    *(f"clients/{file.parent.name}/README.md" for file in sorted((ROOT / "clients").glob("*/README.md"))),
    *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md")) if file.name != "cli.md"),
)
"""All but docs/cli.md, which is made of the help, and CHANGELOG.md, which tells what was."""
SHELL_FENCES = ("", "sh", "bash", "shell", "console")
NAMES = (
    "admin_cli", "trainer", "make", "python", ".venv/bin/python", "functions-framework", ".ci/run", "pip", "pipx",
    "npm", "npx", "curl", "docker", "gcloud", "firebase", "terraform", "git", "pre-commit", "export", "source", "ln",
    "echo", "printf", "cat", "cd", "sleep", "bash",
)  # fmt: skip
"""Every program that the documents start."""
SETTINGS = r"(?:[A-Za-z_]\w*=(?:'[^']*'|\"[^\"]*\"|\S*) )*"
PROGRAM = re.compile(rf"{SETTINGS}(?:{'|'.join(map(re.escape, NAMES))})(?: (?! )|$)")
STARTS = re.compile(rf"(?:(?:for|while|until|if) |(?:do|done|then|else|fi)\b|[A-Za-z_]\w*=|{PROGRAM.pattern})")
"""How a line of a block begins that a shell reads."""
LOOP = re.compile(r"(?:for|while|until|if) .*; (?:do|then)\b")
BEFORE = ("do", "then", "else", "while", "until", "if", "!", "{")
"""Words of the shell behind which a command begins."""
ENDS = ("done", "fi", "}", "for")


@dataclass(frozen=True)
class Command:
    """One program with its arguments, as a document has it."""

    page: str
    line: int
    environment: tuple[tuple[str, str], ...]
    words: tuple[str, ...]
    """The program's name, and its arguments: quotes are gone, variables and ellipses stay."""
    spoken: bool = False
    """It is in a sentence, which may leave out what has to be given."""

    @property
    def program(self) -> str:
        return self.words[0]

    @property
    def text(self) -> str:
        """It in one line, by which a test may name it."""
        settings = [f"{name}={value}" for name, value in self.environment]
        return " ".join([*settings, *self.words])

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text}"


@cache
def commands() -> tuple[Command, ...]:
    """Return those of all pages, each as often as it is there."""
    return tuple(each for page in PAGES for each in commands_of(page, (ROOT / page).read_text(encoding="utf-8")))


def commands_of(page: str, text: str) -> Iterator[Command]:
    """Return those of a page: of its blocks, and of the spans in its sentences."""
    blocks, prose = _parts(text)
    for line, block in blocks:
        found = list(_of_block(page, line, block))
        yield from found
        if not found:  # a paragraph of a list, or what is no shell's
            prose.append((line, " ".join(block)))
    for line, sentence in prose:
        for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", sentence):
            if PROGRAM.match(span) and " " in span.strip():  # a program's name alone is no command line
                yield from (replace(each, spoken=True) for each in _of_block(page, line, [span]))


def _parts(text: str) -> tuple[list[tuple[int, list[str]]], list[tuple[int, str]]]:
    """Return the blocks of code that may be shell, and the paragraphs, each with the number of its first line."""
    blocks: list[tuple[int, list[str]]] = []
    prose: list[tuple[int, str]] = []
    block: list[str] | None = None
    fence: str | None = None
    paragraph: list[str] = []
    indent, before_blank = 0, True
    for number, line in enumerate([*text.splitlines(), ""], 1):
        stripped = line.strip()
        if fence is not None:
            if stripped.startswith("```"):
                fence, block, indent = None, None, 0
            elif fence in SHELL_FENCES and block is not None:
                block.append(line[indent:])
            continue
        if stripped.startswith("```"):
            fence, block, indent = stripped[3:].split(" ")[0], [], len(line) - len(line.lstrip())
            blocks.append((number + 1, block))
            continue
        if block is not None and fence is None and blocks and blocks[-1][1] is block and indent and (
            not stripped or len(line) - len(line.lstrip()) >= indent
        ):  # fmt: skip
            block.append(line[indent:])
            continue
        block, indent = None, 0
        deep = len(line) - len(line.lstrip())
        if stripped and deep >= 4 and before_blank:
            indent, block = deep, [line.strip()]
            blocks.append((number, block))
        elif stripped:
            paragraph.append(line)
        if (not stripped or block is not None) and paragraph:
            prose.append((number - len(paragraph), " ".join(paragraph)))
            paragraph = []
        before_blank = not stripped
    if paragraph:
        prose.append((1, " ".join(paragraph)))
    return blocks, prose


def _of_block(page: str, first: int, block: list[str]) -> Iterator[Command]:
    """Return the commands of a block: of its lines with a prompt, or else of all of them, if any begins with a program.

    Raises:
        AssertionError: a line among commands is none that is known.
    """
    prompts = any(line.startswith("$ ") for line in block)
    if not prompts and not any(PROGRAM.match(line) or LOOP.match(line) for line in block):
        return
    number, until = 0, None
    while number < len(block):
        line, at = block[number], first + number
        number += 1
        if until is not None:
            until = None if line.strip() == until else until
            continue
        if prompts and not line.startswith("$ "):
            continue
        line = line.removeprefix("$ ").strip()
        if not line or line.startswith("#"):
            continue
        assert STARTS.match(line), f"{page}:{at}: {line!r} begins with no program of NAMES. Is it output? Use $."
        while _open(line) and number < len(block):
            line = line[:-1] + block[number].lstrip() if line.endswith("\\") else f"{line}\n{block[number]}"
            number += 1
        if here := re.search(r"<<-?'?(\w+)'?", line):
            until = here[1]
        yield from _of_line(page, at, line)


def _open(line: str) -> bool:
    """Tell whether a line goes on in the next one: by a backslash or within quotes."""
    if line.endswith("\\"):
        return True
    try:
        list(_lexer(line))
    except ValueError:
        return True
    return False


def _lexer(line: str) -> shlex.shlex:
    lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    return lexer


def _of_line(page: str, number: int, line: str) -> Iterator[Command]:
    try:
        words = list(_lexer(line))
    except ValueError as error:
        raise AssertionError(f"{page}:{number}: no shell would read {line!r}: {error}.") from error
    simple: list[str] = []
    for word in [*words, ";"]:
        if re.fullmatch(r"[();|&]+", word):
            yield from _simple(page, number, simple)
            simple = []
        else:
            simple.append(word)


def _simple(page: str, number: int, words: list[str]) -> Iterator[Command]:
    while words and words[0] in BEFORE:
        words = words[1:]
    if not words or words[0] in ENDS:
        return
    settings: list[tuple[str, str]] = []
    while words and (found := re.fullmatch(r"([A-Za-z_]\w*)=(.*)", words[0], flags=re.DOTALL)):
        settings.append((found[1], found[2]))
        words = words[1:]
    kept: list[str] = []
    rest = iter(words)
    for word in rest:
        if re.fullmatch(r"[<>&]*[<>][<>&]*", word):  # where it reads or writes is the shell's
            next(rest, None)
            if kept and kept[-1] in ("1", "2"):
                kept.pop()
        else:
            kept.append(word)
    if kept:
        yield Command(page, number, tuple(settings), tuple(kept))
