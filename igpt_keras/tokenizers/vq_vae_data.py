"""What `fit` and its like of a `VQVAE` are given, checked before they start.

On JAX an error inside `call` costs weights.
"""

import inspect
import itertools
import types

import keras

from igpt_keras.layers.check_shares import check_array_shares
from igpt_keras.layers.check_shares import check_shares


def refuse_weights(name="sample_weight"):
    """Raises the `ValueError` for weights of images."""
    raise ValueError(
        f"{name} is not for a VQ-VAE: the codebook follows all images alike, "
        "whatever the weights of their losses. Leave out or repeat images in "
        "the dataset."
    )


def checked_arguments(vq_vae, method, x, args, kwargs):
    """Arguments by name, once they are known to be such as a VQ-VAE takes.

    Args:
        vq_vae: a `VQVAE`.
        method: the method of `keras.Model` that they are for.
        x: its first argument.
        args, kwargs: the others.

    Returns:
        dict, for `method(**arguments)`.

    Raises:
        ValueError: for other images, for weights, and for a first batch that
            replicas cannot share evenly.
    """
    given = inspect.signature(method).bind(x, *args, **kwargs).arguments
    given.update(given.pop("kwargs", {}))
    for name in ("sample_weight", "class_weight"):
        if given.get(name) is not None:
            refuse_weights(name)
    names = ("batch_size", "validation_split", "validation_batch_size")
    sizes = [given.get(name) for name in names]
    given["x"] = _checked(vq_vae, method, x, *sizes)
    if given.get("validation_data") is not None:
        batch_size = given.get("validation_batch_size") or sizes[0]
        given["validation_data"] = _checked(
            vq_vae, method, given["validation_data"], batch_size
        )
    return given


def _checked(vq_vae, method, data, *sizes):
    """`data`, with its first batch looked at."""
    is_array = False
    if isinstance(data, types.GeneratorType):
        batch = next(data, None)
        data = _continued(batch, data)
    elif isinstance(data, keras.utils.PyDataset):
        batch = data[0]
    elif hasattr(data, "element_spec"):
        batch = data.element_spec
    else:
        batch, is_array = data, True
    images = batch
    if isinstance(batch, (tuple, list)) and batch:
        images = batch[0]
        if len(batch) > 2 and batch[2] is not None:
            refuse_weights()
    if not (hasattr(images, "shape") and hasattr(images, "dtype")):
        return data
    vq_vae.check_images(images)
    if method.__name__ in ("fit", "evaluate"):
        if is_array:
            check_array_shares(vq_vae, images.shape[0], *sizes)
        else:
            check_shares(vq_vae, data, {"first": images.shape[0]})
    return data


def _continued(first, rest):
    # Keras knows generators from other iterators.
    if first is not None:
        yield from itertools.chain([first], rest)
