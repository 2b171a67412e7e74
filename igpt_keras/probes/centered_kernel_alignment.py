import numpy as np


def centered_kernel_alignment(batches):
    """How alike the features of layers are: linear CKA, of each pair.

    Kornblith et al. 2019, "Similarity of Neural Network Representations
    Revisited", section 3: for features `X` and `Y` of the same images, each
    with its mean taken off, `|Y'X|^2 / (|X'X| |Y'Y|)` in Frobenius norms. It is
    1 for features that are the same up to rotation and scale. Of fewer images
    than features are wide it is high whatever they are: pass more.

    The products are summed in float64 batch by batch. Memory does not grow with
    the images: a `D x D` matrix a pair of layers, 0.7 GB for all layers of
    `igpt_s` and 23 GB for those of `igpt_l`, of which fewer can be passed.

    Args:
        batches: iterable of batches, each a float array `(P, B, D)` of `P`
            layers, or a sequence of `P` arrays `(B, D)`, whose widths may
            differ. `[features]` with what `extract_features` returns; or, of
            features that are not kept, those of `stream_features`.

    Returns:
        float64 array `(P, P)` in [0, 1], symmetric, with ones on its diagonal.

    Raises:
        ValueError: if there are fewer than two images, batches do not fit
            together or are not finite, or a layer's features are the same for
            all images.

    Example:
    >>> x = np.random.default_rng(0).normal(size=(50, 3))
    >>> alignment = centered_kernel_alignment([[x, -2 * x[:, ::-1]]])
    >>> bool(abs(alignment[0, 1] - 1) < 1e-9)
    True
    """
    count, start, sums, products = 0, None, None, None
    for batch in batches:
        layers = _check_batch(batch, start)
        if start is None:
            # Taken off before squares are summed, which would drown the rest.
            start = [x.mean(axis=0) for x in layers]
            sums = [np.zeros_like(x) for x in start]
            widths = [len(x) for x in start]
            products = [
                np.zeros((width, sum(widths[i:])))
                for i, width in enumerate(widths)
            ]
        layers = [x - offset for x, offset in zip(layers, start)]
        count += len(layers[0])
        for i, x in enumerate(layers):
            sums[i] += x.sum(axis=0)
            products[i] += x.T @ np.concatenate(layers[i:], axis=1)
    if count < 2:
        raise ValueError(
            f"Features of {count} images have no alignment. Pass more."
        )
    return _normalized(_squares(count, sums, products))


def _squares(count, sums, products):
    """Squared norms of the centred products, of each pair of layers."""
    squares = np.zeros((len(sums), len(sums)))
    for i, row in enumerate(products):
        row -= np.outer(sums[i], np.concatenate(sums[i:])) / count
        ends = np.cumsum([len(x) for x in sums[i:]])[:-1]
        for j, product in enumerate(np.split(row, ends, axis=1), start=i):
            squares[i, j] = squares[j, i] = np.square(product).sum()
    return squares


def _normalized(squares):
    norms = np.sqrt(squares.diagonal())
    constant = np.flatnonzero(norms == 0)
    if constant.size:
        raise ValueError(
            f"The features of layer {constant[0]} of those passed are the same "
            "for all images: nothing aligns with them. Leave it out."
        )
    return squares / np.outer(norms, norms)


def _check_batch(batch, start):
    layers = [np.asarray(x, "float64") for x in batch]
    widths = None if start is None else [len(x) for x in start]
    shapes = [x.shape for x in layers]
    if (
        not layers
        or any(len(shape) != 2 for shape in shapes)
        or len({shape[0] for shape in shapes}) != 1
        or widths not in (None, [shape[1] for shape in shapes])
    ):
        expected = "" if widths is None else f" with widths {widths} as before"
        raise ValueError(
            "A batch must have features (images, width) of each layer, of the "
            f"same images{expected}, received shapes {shapes}. Put a single "
            "batch in a list."
        )
    if not all(np.isfinite(x).all() for x in layers):
        raise ValueError("Features are not finite. Did the model diverge?")
    return layers
