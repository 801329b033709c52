"""The flow of frames from the input to the data set, as a picture."""

from io import BytesIO
from typing import TYPE_CHECKING, Literal

from PIL import Image

from sono.curation.core.drawing import INK
from sono.curation.dataset.plots import new_figure, png_of, style
from sono.curation.dataset.statistics import Statistics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KEPT, OUT = "#e8eef6", "#f6ece8"  # of boxes
ROW = 0.42  # inches for a line of a box
LEFT, RIGHT = 0.24, 0.56  # center of the first column, left side of the second, of the width
SHOWN = 12  # reasons; the rest is one line


def figure_flow(stats: Statistics) -> bytes:
    """A PNG of the frames read, those left out by reason, and those accepted with their splits."""
    from matplotlib.patches import FancyArrowPatch

    left_out = [
        f"{row['frames']:,}  {row['status']}: {row['code']}"
        for row in stats.exclusions.head(SHOWN).to_dict("records")
    ]
    rest = stats.exclusions["frames"].iloc[SHOWN:]
    left_out += [f"{rest.sum():,}  for {len(rest)} other reasons"] * bool(len(rest))
    read = f"{stats.frames['frames']:,} frames read\nfrom {stats.frames['files']:,} files"
    splits = [
        f"{row['frames']:,} {row['split']}"
        for row in stats.split.to_dict("records")
        if row["frames"]
    ]
    accepted = (
        f"{stats.frames['accepted']:,} accepted\nof {stats.frames['patients']:,} patients, "
        f"{stats.frames['centers']:,} centers\n{', '.join(splits)}"
    )
    with style():
        figure = new_figure(9.0, 2.6 + ROW * max(len(left_out), 1))
        axes = figure.subplots()
        axes.set_axis_off()
        axes.set(xlim=(0, 1), ylim=(0, 1))
        _box(axes, LEFT, 0.88, read, KEPT)
        _box(axes, LEFT, 0.13, accepted, KEPT)
        _box(axes, RIGHT, 0.52, "\n".join(left_out) or "0  left out", OUT, "left")
        for start, end in (((LEFT, 0.79), (LEFT, 0.25)), ((LEFT, 0.52), (RIGHT - 0.015, 0.52))):
            arrow = FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=14, color=INK)
            axes.add_patch(arrow)
        return _with_few_colors(png_of(figure))


def _with_few_colors(png: bytes) -> bytes:
    """The picture in 32 colors, a third of the bytes."""
    stream = BytesIO()
    Image.open(BytesIO(png)).convert("RGB").quantize(32).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def _box(
    axes: "Axes",
    x: float,
    y: float,
    text: str,
    color: str,
    side: Literal["left", "center"] = "center",
) -> None:
    box = {"boxstyle": "round,pad=0.7", "facecolor": color, "edgecolor": "#b5bbc2"}
    axes.text(x, y, text, ha=side, va="center", bbox=box, fontsize=10, linespacing=1.5)
