"""What a reader of a picture would stumble over: words cut off, words upon words."""

from itertools import combinations
from unittest.mock import patch

from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.transforms import Bbox


def words(figure: Figure) -> list[tuple[str, Bbox]]:
    """Draw a figure, and return its words with their boxes in pixels."""
    drawn = []
    original = Text.draw

    def draw(text: Text, renderer) -> None:
        if text.get_visible() and text.get_text():
            drawn.append((text.get_text(), text.get_window_extent(renderer)))
        original(text, renderer)

    with patch.object(Text, "draw", draw):
        figure.canvas.draw()
    return drawn


def cut_off(figure: Figure) -> list[str]:
    """Return the words that reach beyond the edge."""
    page = figure.bbox
    return [
        word
        for word, box in words(figure)
        if box.x0 < -1 or box.y0 < -1 or box.x1 > page.x1 + 1 or box.y1 > page.y1 + 1
    ]


def overlapping(figure: Figure) -> list[tuple[str, str]]:
    """Return the pairs of words that cover each other."""
    return [
        (one, other)
        for (one, a), (other, b) in combinations(words(figure), 2)
        if min(a.x1, b.x1) - max(a.x0, b.x0) > 1 and min(a.y1, b.y1) - max(a.y0, b.y0) > 1
    ]
