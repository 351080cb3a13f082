"""Figures read back from their artists, and pictures from their bytes."""

from __future__ import annotations

import itertools
import struct

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text


def lay_out(figure: Figure) -> None:
    """Puts everything in its place, half as fine as in the files."""
    figure.set_dpi(75)
    figure.draw_without_rendering()


def panels(figure: Figure) -> list[Axes]:
    return list(figure.axes)


def line(axes: Axes, label: str) -> Line2D:
    (found,) = [artist for artist in axes.lines if artist.get_label() == label]
    return found


def legend_labels(figure: Figure) -> list[str]:
    return [text.get_text() for legend in figure.findobj(Legend) for text in legend.get_texts()]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text))


def shown_texts(figure: Figure) -> list[Text]:
    """The texts that a reader sees: tick labels only where their tick is in view."""
    ticks: set[int] = set()
    shown: list[Text] = []
    for axes in panels(figure):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                ticks |= {id(tick.label1), id(tick.label2)}
                in_view = low <= tick.get_loc() <= high
                if in_view and tick.get_visible() and tick.label1.get_visible():
                    shown.append(tick.label1)
    shown += [text for text in figure.findobj(Text) if id(text) not in ticks and text.get_visible()]
    return [text for text in shown if text.get_text().strip()]


def check_texts(figure: Figure) -> None:
    """Texts of a figure that is laid out neither overlap nor leave the picture."""
    # Slanted neighbours keep apart though the upright boxes around them do not.
    boxes = [
        (text.get_text(), text.get_window_extent().shrunk(0.97, 0.9), text.get_rotation() % 90 != 0)
        for text in shown_texts(figure)
    ]
    assert len(boxes) > 5
    width, height = figure.bbox.width, figure.bbox.height
    for words_, box, _ in boxes:
        assert box.x0 >= -1, words_
        assert box.y0 >= -1, words_
        assert box.x1 <= width + 1, words_
        assert box.y1 <= height + 1, words_
    for (one, box, slanted), (two, other, too) in itertools.combinations(boxes, 2):
        assert (slanted and too) or not box.overlaps(other), f"{one!r} runs into {two!r}"


def chunks(png: bytes) -> list[tuple[bytes, bytes]]:
    """Types and contents of a PNG file's chunks."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    found, at = [], 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        found.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    return found
