"""Draws kernel.svg, the layout of the matrix profile's kernel: ``python docs/images/kernel.py``."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

LANES = 8
DIAGONALS = 8
# a lane each, from dark to light: viridis, which one can tell apart without seeing colours
COLOURS = [
    *("#440154", "#46327e", "#365c8d", "#277f8e"),
    *("#1fa187", "#4ac16d", "#a0da39", "#fde725"),
]
INK, GREY, LINE, SHADE, PAPER = "#1b1f24", "#57606a", "#8c959f", "#d0d7de", "#ffffff"

Point = tuple[float, float]


class Drawing:
    """An SVG picture; what is added later lies on top."""

    def __init__(self, width: int, height: int, title: str) -> None:
        size = {"viewBox": f"0 0 {width} {height}", "width": str(width), "height": str(height)}
        xmlns = "http://www.w3.org/2000/svg"
        self.root = ElementTree.Element(
            "svg", {"xmlns": xmlns, **size, "font-family": "sans-serif", "font-size": "13"}
        )
        self.add("title").text = title
        marker = {"id": "tip", "viewBox": "0 0 8 8", "refX": "7", "refY": "4", "orient": "auto"}
        marker |= {"markerWidth": "6", "markerHeight": "6"}
        tip = ElementTree.SubElement(self.add("defs"), "marker", marker)
        ElementTree.SubElement(tip, "path", {"d": "M0 1 8 4 0 7z", "fill": INK})
        # paper of its own: the page may be light or dark
        self.box((0.5, 0.5), (width - 1, height - 1), PAPER, rx=8)

    def add(self, tag: str, **attributes: Any) -> ElementTree.Element:
        """Add an element; an underscore in a name stands for a hyphen."""
        given = {name.replace("_", "-"): f"{value}" for name, value in attributes.items()}
        return ElementTree.SubElement(self.root, tag, given)

    def box(self, at: Point, size: Point, fill: str, **more: Any) -> None:
        (x, y), (width, height) = at, size
        look = {"fill": fill, "stroke": LINE} | more
        self.add("rect", x=f"{x:g}", y=f"{y:g}", width=f"{width:g}", height=f"{height:g}", **look)

    def shape(self, corners: list[Point], fill: str) -> None:
        self.add("polygon", points=" ".join(f"{x:g},{y:g}" for x, y in corners), fill=fill)

    def line(self, start: Point, end: Point, **more: Any) -> None:
        path = f"M{start[0]:g} {start[1]:g} {end[0]:g} {end[1]:g}"
        self.add("path", d=path, **{"stroke": INK, "stroke_width": 1.2, **more})

    def arrow(self, start: Point, end: Point, **more: Any) -> None:
        self.line(start, end, marker_end="url(#tip)", **more)

    def text(self, at: Point, words: str, **more: Any) -> None:
        look = {"fill": INK} | more
        self.add("text", x=f"{at[0]:g}", y=f"{at[1]:g}", **look).text = words

    def note(self, at: Point, words: str, **more: Any) -> None:
        self.text(at, words, **{"fill": GREY, "font_size": 12, **more})

    def save(self, path: Path) -> None:
        ElementTree.indent(self.root)
        path.write_text(ElementTree.tostring(self.root, encoding="unicode") + "\n")


def on(lane: int) -> dict[str, Any]:
    """Return how to write on a lane's colour."""
    return {"fill": INK if lane > 4 else PAPER, "font_size": 12, "text_anchor": "middle"}


def matrix(draw: Drawing, x: float, y: float) -> None:
    """The distance matrix, a band in it, and the lanes of the band."""
    side, first, last, zone = 270.0, 78.0, 126.0, 22.0
    draw.text((x, y - 34), "1. A band, in segments for 8 lanes", font_weight="bold")
    draw.note((x + side / 2, y - 8), "columns: windows j", text_anchor="middle")
    turned = {"transform": f"rotate(-90 {x - 10:g} {y + side / 2:g})", "text_anchor": "middle"}
    draw.note((x - 10, y + side / 2), "rows: windows i", **turned)
    draw.box((x, y), (side, side), "#f6f8fa")
    upper = [(0.0, 0.0), (zone, 0.0), (side, side - zone), (side, side)]
    draw.shape([(x + j, y + i) for j, i in [*upper, (side - zone, side), (0, zone)]], SHADE)
    for diagonal in (30.0, 222.0):
        draw.line((x + diagonal, y), (x + side, y + side - diagonal), stroke=SHADE)
    rows = (side - first) / LANES
    for lane in range(LANES):
        top, bottom = lane * rows, (lane + 1) * rows
        corners = [(first + top, top), (min(last + top, side), top)]
        if last + top < side < last + bottom:
            corners.append((side, side - last))
        corners += [(min(last + bottom, side), bottom), (first + bottom, bottom)]
        draw.shape([(x + j, y + i) for j, i in corners], COLOURS[lane])
        right = last + (top + bottom) / 2
        right = right if right < side - 15 else side
        draw.note((x + right + 7, y + top + 16), f"lane {lane}" if lane == 0 else f"{lane}")
        left = x + first - 7
        draw.arrow((left + top + 2, y + top + 2), (left + bottom - 2, y + bottom - 2))
        draw.box((x + first + top + 11, y + top + 8), (9, 4), PAPER, stroke=INK)
    draw.note((x + 10, y + 180), "the same by symmetry")
    draw.note((x + 44, y + 256), "exclusion zone")
    draw.line((x + 132, y + 251), (x + 214, y + 220), stroke=LINE)


def step(draw: Drawing, x: float, y: float) -> None:
    """A step of a group: two rows of eight diagonals."""
    cell, left = 36.0, x + 52
    draw.text((x, y - 34), "2. A step: 8 diagonals, 2 rows", font_weight="bold")
    for column in range(DIAGONALS + 1):
        middle = left + (column + 0.5) * cell
        draw.note((middle, y - 8), f"q+{column}" if column else "q", text_anchor="middle")
    for row in range(2):
        name = f"row k+{row}" if row else "row k"
        draw.note((left - 6, y + row * cell + 21), name, text_anchor="end")
        for d in range(DIAGONALS):
            at = left + (row + d) * cell, y + row * cell
            draw.box(at, (cell, cell), "#f6f8fa")
            draw.text((at[0] + 18, at[1] + 19), f"c{d}", font_size=12, text_anchor="middle")
            for lane in range(LANES):
                draw.box((at[0] + 2 + lane * 4, at[1] + 26), (4, 7), COLOURS[lane], stroke="none")
    for d in range(DIAGONALS):
        draw.arrow((left + d * cell + 26, y + 20), (left + d * cell + 46, y + 47))
    draw.arrow((left, y + 90), (left + 9 * cell, y + 90))
    draw.note((left, y + 106), "column by column")
    said = (
        "Every lane does this at once, in its own rows (white in 1):",
        "a box is a vector, of the cells that the 8 lanes are at.",
        "In registers are the covariances c0 … c7, and for both",
        "rows df, dg, inverse and the nearest so far. The same four",
        "of a column are loaded once, and serve both rows.",
        "After the step, c0 … c7 belong to the rows k+2, and stay",
        "where they are. Nothing is ever shuffled.",
    )
    for n, words in enumerate(said):
        draw.text((x, y + 138 + 20 * n), words)


def interleaved(draw: Drawing, x: float, y: float) -> None:
    """How the rows of the lanes lie in memory."""
    width, vectors = 700.0, 3
    draw.text((x, y - 12), "3. Arrays are interleaved: entry k · 8 + lane", font_weight="bold")
    segment, box = width / LANES, width / (LANES * vectors)
    for lane in range(LANES):
        left = x + lane * segment
        draw.box((left, y), (segment, 24), COLOURS[lane])
        draw.text((left + segment / 2, y + 16.5), f"rows of {lane}", **on(lane))
        draw.arrow((left + 4, y + 24), (x + (lane + 0.5) * box, y + 66), stroke=LINE)
    for k in range(vectors):
        left = x + k * LANES * box
        for lane in range(LANES):
            at = left + lane * box, y + 68
            draw.box(at, (box, 26), COLOURS[lane])
            draw.text((at[0] + box / 2, y + 85.5), f"{lane}", **on(lane))
        draw.box((left, y + 68), (LANES * box, 26), "none", stroke=INK, stroke_width=1.5)
        words = f"vector {k}: row {k} of every lane"
        draw.note((left + LANES * box / 2, y + 112), words, text_anchor="middle")


def main() -> None:
    draw = Drawing(760, 530, "The layout of the matrix profile's kernel")
    matrix(draw, 36, 66)
    step(draw, 360, 66)
    interleaved(draw, 30, 390)
    draw.save(Path(__file__).with_name("kernel.svg"))


if __name__ == "__main__":
    main()
