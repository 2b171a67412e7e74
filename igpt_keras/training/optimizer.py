import keras

from igpt_keras import presets
from igpt_keras.training.safe_adam import SafeAdam

# TensorFlow 1's default, which the paper trained with; Keras has 1e-7.
ADAM_EPSILON = 1e-8


def paper_adam(
    learning_rate,
    steps=None,
    warmup_steps=0,
    beta_1=presets.ADAM_BETA_1,
    beta_2=presets.ADAM_BETA_2,
    weight_decay=0.0,
    clip_norm=None,
):
    """The paper's optimizer (section 3.4).

    Adam without clipping or moving averages of the weights. In pretraining the
    learning rate rises linearly from zero, and falls as a cosine to zero.

    Args:
        learning_rate: float. The peak.
        steps: int. Training steps in all. Defaults to `None`: no schedule, as
            the paper fine-tunes.
        warmup_steps: int. Steps of warm-up among them. Defaults to 0.
        beta_1: float. Defaults to 0.9.
        beta_2: float. Defaults to 0.95.
        weight_decay: float. Share of a weight, times the learning rate, that a
            step takes off (Loshchilov and Hutter 2019); not of gains. Defaults
            to 0, the paper's.
        clip_norm: float. Norm of the gradient that is scaled down to if it is
            more. Defaults to `None`, the paper's.

    Returns:
        `SafeAdam`.
    """
    if steps is None:
        schedule = learning_rate
    elif warmup_steps:
        schedule = keras.optimizers.schedules.CosineDecay(
            0.0,
            steps - warmup_steps,
            warmup_target=learning_rate,
            warmup_steps=warmup_steps,
        )
    else:
        schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    optimizer = SafeAdam(
        schedule,
        clip_norm,
        beta_1=beta_1,
        beta_2=beta_2,
        epsilon=ADAM_EPSILON,
        weight_decay=weight_decay or None,
    )
    if weight_decay:
        optimizer.exclude_from_weight_decay(var_names=["scale"])
    return optimizer
