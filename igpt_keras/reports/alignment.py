import numpy as np
from matplotlib.figure import Figure


def draw_alignment(path, alignment):
    """Writes the alignment of each pair of layers as a heat map.

    Args:
        path: path of the PNG.
        alignment: dict of `evaluation.layer_alignment`.
    """
    layers = alignment["layers"]
    values = np.array(alignment["alignment"])
    side = min(12, max(4.5, 0.35 * len(layers) + 2))
    figure = Figure(figsize=(side + 0.8, side))
    axes = figure.subplots()
    # From 0, where nothing is alike, whatever there is.
    image = axes.imshow(values, vmin=0, vmax=1, cmap="magma", origin="lower")
    figure.colorbar(image, ax=axes, shrink=0.8)
    # As many names as can be read.
    places = range(0, len(layers), -(-len(layers) // 25))
    names = [layers[place] for place in places]
    axes.set_xticks(places, names)
    axes.set_yticks(places, names)
    axes.set_xlabel("layer")
    axes.set_ylabel("layer")
    axes.set_title(
        "linear centred kernel alignment of layers, "
        f"{alignment['images']:,} images",
        fontsize="medium",
    )
    figure.savefig(path, dpi=120, bbox_inches="tight")
