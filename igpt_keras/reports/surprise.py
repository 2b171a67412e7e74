import math

import numpy as np
from matplotlib.figure import Figure


def draw_surprise(path, pictures, nats):
    """Writes pictures, and under each what every token of it cost.

    Args:
        path: path of the PNG.
        pictures: uint8 `(P, R, R, 3)`.
        nats: float `(P, N)`, `N` a square number: `-log p(x_i | x_<i)`.
    """
    side = math.isqrt(nats.shape[1])
    figure = Figure(figsize=(1.6 * len(pictures) + 1, 3.6))
    axes = figure.subplots(2, len(pictures), squeeze=False)
    for above, below, picture, cost in zip(*axes, pictures, nats):
        above.imshow(picture, interpolation="nearest")
        heat = below.imshow(
            cost.reshape(side, side),
            cmap="inferno",
            vmin=0,
            vmax=np.max(nats),
            interpolation="nearest",
        )
        below.set_title(f"{cost.mean():.2f} a token", fontsize="small")
        above.axis("off")
        below.axis("off")
    figure.colorbar(heat, ax=list(axes.ravel()), label="nats per token")
    figure.savefig(path, dpi=150, bbox_inches="tight")
