"""Colours, markers and number formats that the page and the charts have in common."""

from collections.abc import Sequence

from explainft.reporting.runs import Metrics

# Okabe and Ito's palette, which the colour-blind can tell apart, without its yellow, which is lost on white, and with
# a grey for its black, which is lost on a dark page.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#6F6F6F")
# The next ones each time the colours are used up. A marker is Vega's shape and the character beside a run's name.
DASHES = ((1, 0), (7, 4), (2, 3), (9, 3, 2, 3))
MARKERS = (("circle", "\u25cf"), ("square", "\u25a0"), ("triangle-up", "\u25b2"), ("diamond", "\u25c6"))
NEUTRAL = 247  # of each channel: the fill of no difference
BLUES = ("#f7fbff", "#deebf7", "#c6dbef", "#9ecae1", "#6baed6", "#4292c6", "#2171b5", "#08519c", "#08306b")


def look(run: int) -> tuple[str, int]:
    """Returns the colour of the run of that index, and the index of its marker and dash: 28 runs look different."""
    return COLOURS[run % len(COLOURS)], run // len(COLOURS) % len(MARKERS)


def heat(accuracy: float | None) -> tuple[str, str]:
    """Returns the fill of a cell, darker blue for higher accuracy, and the ink that is legible on it."""
    if accuracy is None:
        return "#f2f2f2", "#555555"
    position = (0.05 + 0.9 * accuracy) * (len(BLUES) - 1)
    index = min(int(position), len(BLUES) - 2)
    low, high = _rgb(BLUES[index]), _rgb(BLUES[index + 1])
    mixed = [round(a + (b - a) * (position - index)) for a, b in zip(low, high, strict=True)]
    fill = "#" + "".join(f"{channel:02x}" for channel in mixed)
    return fill, ink(fill)


def diverging(change: float) -> tuple[str, str]:
    """Returns the fill of a difference of two fractions, and the ink that is legible on it.

    A light grey at 0, blue for a gain, orange for a loss; saturated from 50 percentage points on.
    """
    target = _rgb(COLOURS[0] if change > 0 else COLOURS[1])
    part = min(1.0, 2 * abs(change))
    fill = "#" + "".join(f"{round(NEUTRAL + part * (channel - NEUTRAL)):02x}" for channel in target)
    return fill, ink(fill)


def ink(fill: str) -> str:
    """Returns black or white, whichever contrasts more with `fill`: relative luminance as in WCAG 2."""
    linear = [((channel / 255 + 0.055) / 1.055) ** 2.4 for channel in _rgb(fill)]
    luminance = sum(weight * channel for weight, channel in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    return "#000000" if luminance > 0.18 else "#ffffff"  # at 0.18 both contrast 4.6 to 1


def _rgb(colour: str) -> Sequence[int]:
    return bytes.fromhex(colour.removeprefix("#"))


def interval(metrics: Metrics) -> str:
    """Returns the interval of exact match in percent, as `[98.3, 99.2]`; empty where it is unknown."""
    low, high = metrics.get("exact_match_low"), metrics.get("exact_match_high")
    return "" if low is None or high is None else f"[{100 * low:.1f}, {100 * high:.1f}]"


def chance(metrics: Metrics) -> str:
    """Returns the accuracy of a random choice, as `chance 25.0%`; empty where it is unknown."""
    return f"chance {metrics['chance']:.1%}" if "chance" in metrics else ""
