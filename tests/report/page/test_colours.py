"""Colours of contexts on the page: readable in both themes, and close to those of the figures."""

from __future__ import annotations

import re

import pytest

from tests.report.made_up import new_context
from tttkit.report.page.colours import dash, readable, stylesheet, variable
from tttkit.results.contexts import CONTEXTS

PAPERS = {"light": (1.0, 1.0, 1.0), "dark": (0x15 / 255, 0x17 / 255, 0x1A / 255)}


def contrast(colour: str, paper) -> float:
    """Return the contrast that the Web Content Accessibility Guidelines define."""

    def luminance(values):
        linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in values]
        return sum(share * value for share, value in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    values = [int(part, 16) / 255 for part in re.findall("..", colour[1:])]
    low, high = sorted((luminance(values), luminance(paper)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("theme", "least"), [("light", 4.5), ("dark", 7.0)])
@pytest.mark.parametrize("colour", [*(context.colour for context in CONTEXTS.values()), "#000000", "#FFFFFF"])
def test_every_colour_stands_out_in_both_themes(colour, theme, least):
    # The colour is rounded to 8 bits at the end.
    assert contrast(readable(colour, PAPERS[theme]), PAPERS[theme]) > least - 0.1


def test_a_colour_that_stands_out_already_is_kept():
    assert readable("#0072B2") == "#0072b2"


def test_every_context_of_the_table_has_a_colour_in_each_theme(monkeypatch):
    monkeypatch.setitem(CONTEXTS, "decayed", new_context())
    text = stylesheet()
    assert [text.count(f"{variable(name)}: #") for name in CONTEXTS] == [3] * len(CONTEXTS)
    assert variable("sw_aligned") == "--context-sw-aligned"


def test_line_styles_differ():
    assert len({dash(name) for name in CONTEXTS}) == len(CONTEXTS)
    assert dash("full") == ""
