"""Patterns of names: what they match, and which listing they need."""

from __future__ import annotations

import unicodedata

import pytest

from batch.globs import is_pattern, literal_prefix, matcher
from classifier.errors import InvalidRequest


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("**/*.jpg", ["a.jpg", "b/a.jpg", "b/c/.jpg"], ["a.png", "a.jpg/b", "a.jpgx"]),
        ("a/**", ["a/b", "a/b/c", "a/"], ["b/a/c", "ab/c"]),
        ("a/*.jpg", ["a/b.jpg"], ["a/b/c.jpg"]),
        ("a?.jpg", ["ab.jpg", "a?.jpg", "a#.jpg"], ["a/.jpg", "a.jpg", "abc.jpg"]),
        ("[a-c]?[!0-9].{jpg,png}", ["bxx.png", "cx .jpg"], ["dxx.png", "bx1.png", "bxx.gif"]),
        ("x[[]1].jpg", ["x[1].jpg"], ["x1.jpg"]),
        ("a b#(1)+.jpg", ["a b#(1)+.jpg"], ["a b#(1).jpg", "a b#1+.jpg"]),
        ("*.{jpg,j*g}", ["a.jpeg", "a.jpg"], ["a.png"]),
        ("a\nb*", ["a\nbc"], ["a b"]),
    ],
)
def test_a_pattern_matches_whole_names(pattern: str, matching: list[str], other: list[str]) -> None:
    matches = matcher(pattern)
    assert [name for name in matching if not matches(name)] == []
    assert [name for name in other if matches(name)] == []
    prefix = literal_prefix(pattern)
    assert all(name.startswith(prefix) for name in matching)


def test_letters_with_accents_match_however_they_are_written() -> None:
    composed, decomposed = (unicodedata.normalize(form, "Crème brûlée/é.jpg") for form in ("NFC", "NFD"))
    assert composed != decomposed
    for pattern in (composed.replace("é.", "*."), decomposed.replace("e\u0301.", "*.")):
        matches = matcher(pattern)
        assert matches(composed) and matches(decomposed)
        prefix = literal_prefix(pattern)
        assert prefix == "Cr" and composed.startswith(prefix) and decomposed.startswith(prefix)


def test_what_is_no_pattern_is_known() -> None:
    assert not is_pattern("gs://photos/a b#c/d(1).jpg")
    assert all(is_pattern(f"x{each}") for each in "*?[{")


@pytest.mark.parametrize("pattern", ["a[b", "a{b", "[]"])
def test_what_is_not_closed_is_told(pattern: str) -> None:
    with pytest.raises(InvalidRequest, match=r"closed; received .* is matched by \?\."):
        matcher(pattern)
    with pytest.raises(InvalidRequest, match="bad character range z-a"):
        matcher("[z-a].jpg")
