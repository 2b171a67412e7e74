from igpt_keras.backend import num_replicas
from igpt_keras.training.resized import resized_weights


def rebuilt(model, **changes):
    """An `IGPT` again, with its weights, in the strategy's scope.

    Args:
        model: an `IGPT` from outside of it.
        **changes: of its configuration, which leave the weights what they are;
            by another `sequence_length` positions are resized.
    """
    copy = type(model).from_config({**model.get_config(), **changes})
    copy.set_weights(resized_weights(model, copy.sequence_length))
    return copy


def shared_evenly(split, model):
    """As many of a split's images as divide among the replicas of a model.

    TensorFlow has no convolution of no images, a replica's share of a last
    image.

    Args:
        split: `Split`.
        model: a Keras model.

    Returns:
        `Split`, with all of them or a few less.

    Raises:
        ValueError: if there are fewer images than replicas.
    """
    replicas = num_replicas(model)
    if len(split) < replicas:
        raise ValueError(
            f"Fewer validation images than {replicas} replicas. Use more "
            "--evaluation_images, or --strategy=none."
        )
    return split.first(len(split) // replicas * replicas)
