import contextlib
import json
import os
import sys

import keras

from igpt_keras.backend import num_replicas


def strategy_scope(strategy, batch_size):
    """Where a model is built: under `tf.distribute`, or not.

    Args:
        strategy: `"none"`, or `"mirrored"`: one replica on each GPU.
        batch_size: int. Images in a batch, over all replicas.

    Returns:
        A context manager.

    Raises:
        ValueError: if the backend is not TensorFlow's, a batch does not divide
            among the replicas, or there are other workers.
    """
    _check_workers()
    if strategy == "none":
        return contextlib.nullcontext()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "--strategy=mirrored is tf.distribute and needs the TensorFlow "
            f"backend, this is {keras.backend.backend()}."
        )
    import tensorflow as tf

    if not tf.config.list_logical_devices("GPU"):
        sys.stdout.write("--strategy=mirrored finds no GPU: one CPU trains.\n")
    mirrored = tf.distribute.MirroredStrategy()
    replicas = mirrored.num_replicas_in_sync
    if batch_size % replicas:
        down = batch_size // replicas * replicas
        raise ValueError(
            f"batch_size={batch_size} does not divide among {replicas} "
            f"replicas; use {down or replicas} or {down + replicas}."
        )
    return mirrored.scope()


def _check_workers():
    """Raises a `ValueError` if this is one of several workers."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG") or "{}")["cluster"]
        workers = sum(len(addresses) for addresses in cluster.values())
    except (KeyError, TypeError, AttributeError, ValueError):
        # No cluster, or nothing that TensorFlow would understand.
        return
    if workers > 1:
        raise ValueError(
            f"TF_CONFIG names {workers} workers, and each would train a run of "
            "its own: training on more than one machine is not supported. "
            "Unset TF_CONFIG to train on this one."
        )


def rebuilt(model, **changes):
    """An `IGPT` again, with its weights, in the strategy's scope.

    Args:
        model: an `IGPT` from outside of it.
        **changes: of its configuration, which leave the weights what they are.
    """
    copy = type(model).from_config({**model.get_config(), **changes})
    copy.set_weights(model.get_weights())
    return copy


def shared_evenly(count, model):
    """How many of so many images divide among the replicas of a model.

    TensorFlow has no convolution of no images, a replica's share of a last
    image.

    Args:
        count: int. Images that there are.
        model: a Keras model.

    Returns:
        int, `count` or a few less.

    Raises:
        ValueError: if there are fewer images than replicas.
    """
    replicas = num_replicas(model)
    if count < replicas:
        raise ValueError(
            f"Fewer validation images than {replicas} replicas. Use more "
            "--evaluation_images, or --strategy=none."
        )
    return count // replicas * replicas
