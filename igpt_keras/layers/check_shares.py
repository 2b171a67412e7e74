import math

import keras

from igpt_keras.backend import num_replicas


def check_shares(model, data, batches):
    """Raises a `ValueError` if replicas cannot share batches evenly.

    Args:
        model: a Keras model.
        data: what yields the batches, where a size is not known.
        batches: dict of the sizes of the "first" batch and the "last", which
            may be `None` if they are not known.
    """
    if keras.backend.backend() == "jax":
        distribution = keras.distribution.distribution()
        if not isinstance(distribution, keras.distribution.DataParallel):
            return
        import jax

        # Each process brings its own part of a batch.
        replicas = distribution.device_mesh.shape[0] // jax.process_count()
    else:
        replicas = num_replicas(model)
        # Later ones need not be even.
        batches = {"first": batches["first"]}
    if replicas <= 1:
        return
    for name, count in batches.items():
        if count is None:
            count = keras.tree.flatten(next(iter(data)))[0].shape[0]
        if count % replicas:
            raise ValueError(
                f"The {name} batch has {count} images for {replicas} replicas, "
                "which must share it evenly. Choose a batch size, or number of "
                f"images, that is a multiple of {replicas}."
            )


def check_array_shares(
    model, count, batch_size, split=None, validation_batch_size=None
):
    """`check_shares` of the batches that Keras makes of arrays.

    Args:
        model: a Keras model.
        count: int. Images in the arrays.
        batch_size: int, as of `fit`.
        split: float, the `validation_split` of `fit`. Defaults to none.
        validation_batch_size: int, as of `fit`. Defaults to `batch_size`.
    """
    batch_size = batch_size or 32
    trained = math.floor(count * (1 - (split or 0)))
    for rows, size in (
        (trained, batch_size),
        (count - trained, validation_batch_size or batch_size),
    ):
        batches = {"first": min(size, rows), "last": rows % size}
        check_shares(model, None, batches)
