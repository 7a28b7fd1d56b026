"""Charts of a report, as SVG that follows the colours of the page."""

import numpy as np

_WIDTH, _HEIGHT = 640, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 12, 44
_N_BARS = 40


def range_of_bars(low, high, n_bars):
    """Widen a range of values that are alike up to rounding: bars need room.

    Parameters
    ----------
    low, high : float
        The smallest and the largest value.
    n_bars : int
        How many bars are to share the range.

    Returns
    -------
    low, high : float
        The same, or half of their size further out.
    """
    size = max(abs(low), abs(high))
    if high - low > n_bars * np.finfo(np.float32).eps * size:
        return low, high
    half = size / 2 or 0.5
    return low - half, high + half


def familiarity_chart(known, unknown, threshold):
    """Draw how familiar known and unknown queries are.

    Parameters
    ----------
    known, unknown : ndarray
        Familiarities.
    threshold : float or None
        Below which queries are rejected.

    Returns
    -------
    html : str
        A figure.
    """
    everyone = np.concatenate([known, unknown])
    everyone = everyone[np.isfinite(everyone)]
    if not len(everyone):
        return ""
    low, high = float(everyone.min()), float(everyone.max())
    if threshold is not None and np.isfinite(threshold):
        low, high = min(low, threshold), max(high, threshold)
    low, high = range_of_bars(low, high, _N_BARS)
    edges = np.linspace(low, high, _N_BARS + 1)
    heights = [
        np.histogram(values, edges)[0] / max(1, len(values))
        for values in (known, unknown)
    ]
    most = max(float(each.max()) for each in heights)

    def x(value):
        return _LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)

    bars = []
    half = (x(edges[1]) - x(edges[0])) / (2 if len(unknown) and len(known) else 1)
    for side, (name, shares) in enumerate(
        zip(("known", "unknown"), heights, strict=True)
    ):
        for edge, share in zip(edges, shares, strict=False):
            if share:
                height = share / most * (_HEIGHT - _TOP - _BOTTOM)
                bars.append(
                    f'<rect class="{name}" '
                    f'x="{x(edge) + side * half * (len(known) > 0):.1f}" '
                    f'y="{_HEIGHT - _BOTTOM - height:.1f}" '
                    f'width="{max(half - 0.5, 1):.1f}" height="{height:.1f}"/>'
                )
    parts = ["".join(bars), _axis("familiarity", _ticks(low, high), x)]
    parts.append(_shares(_TOP, f"{most:.0%}") + _shares(_HEIGHT - _BOTTOM, "0%"))
    told = f"{len(known)} known queries, median familiarity {_median(known)}"
    if len(unknown):
        told += f"; {len(unknown)} unknown ones, median {_median(unknown)}"
    if threshold is not None and np.isfinite(threshold):
        place = x(threshold)
        parts.append(
            f'<line class="threshold" x1="{place:.1f}" x2="{place:.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/>'
        )
        told += f"; threshold {threshold:.3g}"
    key = '<span class="key" style="background:var(--good-fill)"></span>known classes'
    if len(unknown):
        key += ' &nbsp; <span class="key" style="background:var(--bad-fill)"></span>'
        key += "unknown"
    if threshold is not None:
        key += " &nbsp; dashed: the threshold"
    return _chart("".join(parts), told, f"{key}; shares of the queries of each kind")


def reliability_chart(found):
    """Draw accuracy against probability.

    Parameters
    ----------
    found : Bunch
        Of `reliability`.

    Returns
    -------
    html : str
        A figure.
    """

    def x(value):
        return _LEFT + value * (_WIDTH - _LEFT - _RIGHT)

    def y(value):
        return _HEIGHT - _BOTTOM - value * (_HEIGHT - _TOP - _BOTTOM)

    parts = [
        f'<line class="threshold" x1="{x(0)}" y1="{y(0)}" x2="{x(1)}" y2="{y(1)}"/>',
        _axis("probability", np.linspace(0, 1, 6), x),
    ]
    parts += [_shares(y(value), f"{value:.0%}") for value in (0, 0.5, 1)]
    points = list(zip(found.confidence, found.accuracy, strict=True))
    line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
    parts.append(f'<polyline class="known-line" points="{line}"/>')
    for (a, b), low, high in zip(points, found.low, found.high, strict=True):
        parts.append(
            f'<line class="known-line" x1="{x(a):.1f}" x2="{x(a):.1f}" '
            f'y1="{y(low):.1f}" y2="{y(high):.1f}"/>'
            f'<circle class="known" cx="{x(a):.1f}" cy="{y(b):.1f}" r="4"/>'
        )
    told = "; ".join(f"probability {a:.2f}, right {b:.0%}" for a, b in points)
    key = (
        "Accuracy of ten parts of equally many queries, with 95 % intervals; dashed: "
        "where probabilities mean what they say"
    )
    return _chart("".join(parts), told, key)


def _median(values):
    return f"{np.median(values):.3g}" if len(values) else "-"


def _ticks(low, high):
    """Find some four round numbers between two."""
    step = 10.0 ** np.floor(np.log10((high - low) / 2))
    while (high - low) / step > 6:
        step *= 2 if (high - low) / step < 12 else 2.5
    return np.arange(np.ceil(low / step), np.floor(high / step) + 1) * step


def _axis(name, ticks, x):
    y = _HEIGHT - _BOTTOM
    # As many digits as tell one from the next.
    step, size = np.diff(ticks).min(initial=np.inf), np.abs(ticks).max(initial=0)
    digits = max(3, 2 + int(np.ceil(np.log10(size / step)))) if size > step else 3
    marks = "".join(
        f'<line class="axis" x1="{x(t):.1f}" x2="{x(t):.1f}" y1="{y}" y2="{y + 5}"/>'
        f'<text x="{x(t):.1f}" y="{y + 18}" text-anchor="middle">{t:.{digits}g}</text>'
        for t in np.asarray(ticks).tolist()
    )
    return (
        f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y}" y2="{y}"/>'
        f'{marks}<text x="{(_LEFT + _WIDTH) / 2:.0f}" y="{_HEIGHT - 6}" '
        f'text-anchor="middle">{name}</text>'
    )


def _shares(y, text):
    """Say how high something is, beside the chart."""
    return f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>'


def _chart(parts, told, key):
    return (
        f'<figure><svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{told}">{parts}</svg><figcaption>{key}</figcaption></figure>'
    )
