"""Names of runs and models in figures: any characters, drawn as they are where a font has them.

The usual font has no Chinese, Japanese or Korean characters. An installed font that has them draws the text; without
one, and for characters that cannot be drawn, the figure shows escapes such as `\\u5c0f`, so that names stay distinct.
"""

from __future__ import annotations

import functools
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

_PLACEHOLDERS = "Last Resort"
"""matplotlib's own font of this name draws the same box for many characters."""


def make_drawable(figure: Figure) -> None:
    """Give every text of a figure a font that has its characters, or escape them."""
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        content = text.get_text()
        missing = frozenset(content) - characters_of(findfont(text.get_fontproperties())) - {"\n"}
        if not missing:
            continue
        family = _family_with(frozenset(each for each in missing if each.isprintable()))
        if family is not None:
            text.set_fontfamily([*text.get_fontfamily(), family])
            missing = frozenset(each for each in missing if not each.isprintable())
        text.set_text("".join(_escape(each) if each in missing else each for each in content))


@functools.cache
def characters_of(font: str | Path) -> frozenset[str]:
    """Return the characters that the font in a file has."""
    return frozenset(map(chr, get_font(font).get_charmap()))


@functools.cache
def _family_with(characters: frozenset[str]) -> str | None:
    """Return the first installed font family, by name, whose regular face has all characters; None if none has."""
    if not characters:
        return None
    regular = [
        font
        for font in fontManager.ttflist
        if font.style == "normal" and font.weight in (400, "normal") and not font.name.startswith(_PLACEHOLDERS)
    ]
    for font in sorted(regular, key=lambda font: (font.name, font.fname)):
        try:
            if characters <= characters_of(font.fname):
                return font.name
        except (OSError, RuntimeError):  # the file is gone or damaged
            continue
    return None


def _escape(character: str) -> str:
    return (
        character.encode("ascii", errors="backslashreplace").decode() if ord(character) > 127 else repr(character)[1:-1]
    )
