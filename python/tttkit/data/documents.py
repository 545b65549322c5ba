"""The rules that cut the lines of a text into documents."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

from tttkit.errors import UsageError

RULES = ("file", "line", "blank-line", "wikitext")
_ARTICLE_HEADING = re.compile(r"^ = (?!= )(.*\S.*)(?<! =) = \r?\n?$")

PIECE_CHARACTERS = 1 << 18
"""Approximate size of the pieces of a document."""
MAX_LINE_CHARACTERS = 1 << 20
"""A longer line comes in parts, so that memory stays bounded."""
Lines = Iterable[str]


def cut_lines(lines: Lines, rule: str, pattern: str | None = None) -> Iterator[str]:
    """Return the documents of one text, given its lines with their line ends.

    The rule says what a document is. `file`: the whole text. `line`: each line that is not blank, without its line end.
    `blank-line`: each block between blank lines. `wikitext`: each article, which starts at a level-one heading
    ` = Title = `. A `pattern` overrides the rule: a document starts at each line that matches it. Raises UsageError
    for an unknown rule or an invalid regular expression.
    """
    if pattern is not None:
        return _cut_at(lines, compile_pattern(pattern))
    if rule == "file":
        return iter(["".join(lines)])
    if rule == "line":
        return (line.rstrip("\r\n") for line in lines if line.strip())
    if rule == "blank-line":
        return _blocks(lines)
    if rule == "wikitext":
        return _cut_at(lines, _ARTICLE_HEADING.match)
    raise UsageError(f"unknown document rule `{rule}`", hint=f"rules: {', '.join(RULES)}")


def cut_pieces(pieces: Iterable[str], pattern: str) -> Iterator[str | None]:
    """Yield the pieces of each document of a text that comes in pieces, and None after each document.

    The documents are those of `cut_lines` with this pattern, but none of them is in memory as a whole. The pattern is
    looked for in the first million characters of a line.
    """
    starts_document = compile_pattern(pattern)
    current: list[str] = []
    size, has_text = 0, False
    for part, begins_line in _line_parts(pieces):
        if begins_line and current and starts_document(part):
            if has_text:
                yield "".join(current)
                yield None
            current, size, has_text = [], 0, False
        elif has_text and size >= PIECE_CHARACTERS:
            yield "".join(current)
            current, size = [], 0
        current.append(part)
        size += len(part)
        has_text = has_text or not part.isspace()
    if has_text:
        yield "".join(current)
        yield None


def _line_parts(pieces: Iterable[str]) -> Iterator[tuple[str, bool]]:
    """Yield (part, whether it begins a line): whole lines with their ends, and longer lines in parts."""
    rest, begins_line = "", True
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        for line in lines:
            yield f"{line}\n", begins_line
            begins_line = True
        if len(rest) >= MAX_LINE_CHARACTERS:
            yield rest, begins_line
            rest, begins_line = "", False
    if rest:
        yield rest, begins_line


def compile_pattern(pattern: str) -> Callable[[str], object]:
    """Return the search function of a --document-pattern. Raises UsageError for an invalid regular expression."""
    try:
        return re.compile(pattern).search
    except re.error as error:
        raise UsageError(f"--document-pattern is not a regular expression: {error}") from error


def _cut_at(lines: Lines, starts_document: Callable[[str], object]) -> Iterator[str]:
    """Start a document at each matching line. The text before the first match is a document unless it is blank."""
    current: list[str] = []
    for line in lines:
        if starts_document(line) and current:
            if any(part.strip() for part in current):
                yield "".join(current)
            current = []
        current.append(line)
    if any(part.strip() for part in current):
        yield "".join(current)


def _blocks(lines: Lines) -> Iterator[str]:
    current: list[str] = []
    for line in lines:
        if line.strip():
            current.append(line)
        elif current:
            yield "".join(current)
            current = []
    if current:
        yield "".join(current)
