"""What `fit` and its like of a `VQVAE` are given, checked before they start.

On JAX an error inside `call` costs weights.
"""

import inspect
import itertools
import math
import types

import keras

from igpt_keras.backend import num_replicas


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
    batch_size = given.get("batch_size") or 32
    split = given.get("validation_split") or 0
    given["x"] = _checked(vq_vae, method, x, batch_size, 1 - split)
    if split and hasattr(x, "shape"):
        _checked(vq_vae, method, x, batch_size, split)
    if given.get("validation_data") is not None:
        batch_size = given.get("validation_batch_size") or batch_size
        given["validation_data"] = _checked(
            vq_vae, method, given["validation_data"], batch_size
        )
    return given


def _checked(vq_vae, method, data, batch_size, share=1):
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
            count = math.floor(share * images.shape[0])
            batches = {"first": min(batch_size, count)}
            batches["last"] = count % batch_size
        else:
            batches = {"first": images.shape[0]}
        _check_shares(vq_vae, data, batches)
    return data


def _check_shares(vq_vae, data, batches):
    """Raises a `ValueError` if replicas cannot share batches of these sizes."""
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
        if not isinstance(distribution, keras.distribution.DataParallel):
            return
        replicas = distribution.device_mesh.shape[0]
    else:
        replicas = num_replicas(vq_vae)
        # Later ones need not be even.
        batches = {"first": batches["first"]}
    if replicas == 1:
        return
    for name, count in batches.items():
        if count is None:
            first = next(iter(data))
            first = first[0] if isinstance(first, (tuple, list)) else first
            count = first.shape[0]
        if count % replicas:
            raise ValueError(
                f"The {name} batch has {count} images for {replicas} replicas, "
                "which must share it evenly. Choose a batch size, or number of "
                f"images, that is a multiple of {replicas}."
            )


def _continued(first, rest):
    # Keras knows generators from other iterators.
    if first is not None:
        yield from itertools.chain([first], rest)
