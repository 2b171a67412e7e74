from igpt_keras.backend import num_replicas

# Of an optimizer, and what has the same meaning on replicas.
_OF_OPTIMIZER = {
    "clipnorm": "clip_norm of igpt_keras.training.SafeAdam",
    "global_clipnorm": "clip_norm of igpt_keras.training.SafeAdam",
    "clipvalue": "clip_norm of igpt_keras.training.SafeAdam",
    "gradient_accumulation_steps": "micro_batches of igpt_keras.training.fit",
}


def check_replicas(model, optimizer, steps_per_execution=1, jit_compile="auto"):
    """Raises a `ValueError` for what Keras cannot do under `tf.distribute`.

    It would clip each replica's share of a gradient, and fail at the first
    step with the others (Keras 3.15).

    Args:
        model: Keras model.
        optimizer: what it is compiled with.
        steps_per_execution: int, of `compile`. Defaults to 1.
        jit_compile: bool or `"auto"`, of `compile`. Defaults to `"auto"`.
    """
    if num_replicas(model) == 1:
        return
    found = {
        f"{name} of the optimizer": instead
        for name, instead in _OF_OPTIMIZER.items()
        if getattr(optimizer, name, None)
    }
    if steps_per_execution not in (None, 1):
        instead = "steps_per_call of igpt_keras.training.fit"
        found["steps_per_execution"] = instead
    if jit_compile is True:
        found["jit_compile"] = "jit_compile=False"
    if found:
        name, instead = next(iter(found.items()))
        raise ValueError(
            f"Keras cannot do with {name} on several replicas what it means on "
            f"one device. Use {instead}."
        )
