"""Colours of the contexts on the page, in a light and a dark version, as CSS variables; line styles as SVG dashes."""

from __future__ import annotations

from tttkit.results.contexts import CONTEXTS

_DASHES = {"-": "", "--": "6 3", "-.": "8 3 2 3", ":": "2 3"}
"""By name of a line style: the `stroke-dasharray` that looks the same in SVG."""
_LIGHT, _DARK = (1.0, 1.0, 1.0), (0x15 / 255, 0x17 / 255, 0x1A / 255)
"""Background of the page, --paper in page.css."""
_CONTRAST = {_LIGHT: 4.5, _DARK: 7.0}
"""Least contrast of a colour with each background, as in the Web Content Accessibility Guidelines."""
_STEPS = 50
Colour = tuple[float, float, float]


def variable(context: str) -> str:
    """Return the CSS variable that holds the colour of a context."""
    return f"--context-{context.replace('_', '-')}"


def dash(context: str) -> str:
    """Return the `stroke-dasharray` of a context."""
    style = CONTEXTS[context].line_style
    return _DASHES.get(style, "") if isinstance(style, str) else " ".join(str(length) for length in style[1])


def stylesheet() -> str:
    """Return the rules that give every context its colour, by the theme that the reader or the browser chooses."""
    light, dark = (
        " ".join(f"{variable(name)}: {readable(context.colour, paper)};" for name, context in CONTEXTS.items())
        for paper in (_LIGHT, _DARK)
    )
    return (
        f":root {{ {light} }}\n"
        f'@media screen and (prefers-color-scheme: dark) {{ :root:not([data-theme="light"]) {{ {dark} }} }}\n'
        f'@media screen {{ :root[data-theme="dark"] {{ {dark} }} }}\n'
    )


def readable(colour: str, paper: Colour = _LIGHT) -> str:
    """Return a colour such as #0072B2, mixed with black or white until it stands out from the background."""
    red, green, blue = (int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5))
    ink = 0.0 if _luminance(paper) > 0.5 else 1.0
    for step in range(_STEPS + 1):
        share = step / _STEPS
        mixed = (_mix(red, ink, share), _mix(green, ink, share), _mix(blue, ink, share))
        if _contrast(mixed, paper) >= _CONTRAST[paper]:
            break
    return "#" + "".join(f"{round(255 * value):02x}" for value in mixed)


def _mix(value: float, ink: float, share: float) -> float:
    return (1 - share) * value + share * ink


def _contrast(one: Colour, other: Colour) -> float:
    low, high = sorted((_luminance(one), _luminance(other)))
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: Colour) -> float:
    """Return the relative luminance of an sRGB colour with values 0 … 1."""
    red, green, blue = (value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in colour)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
