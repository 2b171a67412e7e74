from igpt_keras import presets
from igpt_keras.layers.blocked_attention import block_size

# Of a device, what training may take: the rest is the allocator's.
_SHARE = 0.9
# Bytes of TensorFlow's own, as measured on a CPU.
_FIXED = 130e6


def estimate_training_memory(
    *,
    vocabulary_size: int,
    sequence_length: int,
    num_layers: int,
    num_heads: int,
    hidden_dim: int,
    batch_size: int,
    objective: str = "autoregressive",
    head: str = "zeros",
    dtype: str = "float32",
    remat: bool = False,
    micro_batches: int = 1,
    model_parallel: int = 1,
) -> dict:
    """Bytes that a training step needs on a device, by what they are for.

    With `P` weights, 4 bytes each for weights, 8 for gradients and what the
    optimizer makes of them, 8 for Adam's moments, all over `model_parallel`; 4
    more for the sum of gradients with micro-batches, 2 for copies under a mixed
    policy. With `T = B N` tokens of a micro-batch, a block keeps `64 T D` bytes
    for the backward pass: 16 vectors, as was measured; under a mixed policy,
    whose norms are float32, `40 T D`, which was not.
    With `remat` it keeps its input, and one block the rest. Beside
    that stand the logits three times, `12 T V`, twice the float32 scores of a
    block of `b` queries, `8 T H b`, since attention keeps no others, and 130
    MB, whatever the size. That is TensorFlow's, without XLA; dropout adds to
    it. `tools/measure_memory.py` sets it beside what is measured, in float32.

    Args:
        vocabulary_size: int, `V`.
        sequence_length: int, `N`.
        num_layers: int.
        num_heads: int, `H`.
        hidden_dim: int, `D`.
        batch_size: int. Images on the device.
        objective: as for `IGPT`.
        head: as for `IGPT`.
        dtype: str, the Keras dtype policy. Defaults to `"float32"`.
        remat: bool. Defaults to `False`.
        micro_batches: int. Parts of the batch. Defaults to 1.
        model_parallel: int. Devices that share the weights. Defaults to 1.

    Returns:
        dict of `weights`, `gradients`, `moments`, `copies` and `activations`;
        `total`, their sum.
    """
    mixed = dtype != "float32"
    parameters = presets.count_parameters(
        vocabulary_size=vocabulary_size,
        sequence_length=sequence_length,
        num_layers=num_layers,
        num_heads=num_heads,
        hidden_dim=hidden_dim,
        objective=objective,
        head=head,
    )
    held = parameters / model_parallel
    tokens = -(-batch_size // micro_batches) * sequence_length
    vectors = (40 if mixed else 64) * tokens * hidden_dim
    blocks, inputs = num_layers, 0
    if remat:
        blocks = 1
        inputs = num_layers * (2 if mixed else 4) * tokens * hidden_dim
    queries = min(block_size(sequence_length), sequence_length)
    found = {
        "weights": 4 * held,
        "gradients": (8 if micro_batches == 1 else 12) * held,
        "moments": 8 * held,
        "copies": (2 if mixed else 0) * held,
        "activations": blocks * vectors
        + inputs
        + 12 * tokens * vocabulary_size
        + 8 * tokens * num_heads * queries
        + _FIXED,
    }
    return {**found, "total": sum(found.values())}


def find_fit(device_memory, num_devices, batch_size, remat, **size):
    """The least change with which training fits, or `None`.

    Sharing weights is tried last, `remat`, which costs arithmetic, before it,
    and fewer micro-batches before more.

    Args:
        device_memory: float. Bytes of a device, of which a tenth is left.
        num_devices: int.
        batch_size: int. Images over all devices.
        remat: bool. Whether to go on with it is settled.
        **size: other arguments of `estimate_training_memory`.

    Returns:
        dict of `model_parallel`, `remat`, `micro_batches` and `total`.
    """
    model_parallel = 1
    while num_devices % model_parallel == 0:
        share = -(-batch_size * model_parallel // num_devices)
        for again in (True,) if remat else (False, True):
            for parts in range(1, share + 1):
                if share % parts:
                    continue
                change = {
                    "model_parallel": model_parallel,
                    "remat": again,
                    "micro_batches": parts,
                }
                found = estimate_training_memory(
                    batch_size=share, **size, **change
                )
                if found["total"] <= _SHARE * device_memory:
                    return {**change, "total": found["total"]}
        model_parallel *= 2
    return None


def describe_memory(
    *,
    num_devices,
    batch_size,
    device_memory=None,
    remat=False,
    micro_batches=1,
    **size,
):
    """What a device needs, whether it has it, and what would do, as text.

    Args:
        num_devices: int. Devices that share a batch.
        batch_size: int. Images over all devices.
        device_memory: float. GB (1e9 bytes) of a device. Defaults to `None`:
            not known.
        remat: bool. Defaults to `False`.
        micro_batches: int. Parts of each device's share. Defaults to 1.
        **size: other arguments of `estimate_training_memory`.

    Returns:
        dict of str by str: rows of a table.
    """
    share = -(-batch_size // num_devices)

    def estimate(remat):
        return estimate_training_memory(
            batch_size=share, remat=remat, micro_batches=micro_batches, **size
        )

    found = estimate(remat)
    parts = ", ".join(
        f"{name} {_gigabytes(found[name])}"
        for name in ("weights", "gradients", "moments", "copies", "activations")
        if found[name]
    )
    other = "without" if remat else "with"
    rows = {
        "memory of a device": f"{_gigabytes(found['total'])} GB: {parts}",
        f"{other} --remat": f"{_gigabytes(estimate(not remat)['total'])} GB",
    }
    if device_memory is None:
        return rows
    if found["total"] <= _SHARE * device_memory * 1e9:
        rows["fits"] = f"yes, on {num_devices} x {device_memory:g} GB"
        return rows
    fit = find_fit(
        device_memory * 1e9, num_devices, batch_size, remat=remat, **size
    )
    rows["fits"] = f"no, on {num_devices} x {device_memory:g} GB; " + (
        "nor with --remat, --micro_batches and a mesh"
        if fit is None
        else _advice(fit, num_devices)
    )
    if fit is not None and not fit["remat"]:
        model_parallel = fit["model_parallel"]
        fit = find_fit(
            device_memory * 1e9, num_devices, batch_size, remat=True, **size
        )
        if fit is not None and fit["model_parallel"] == model_parallel:
            rows["or"] = _advice(fit, num_devices)
    return rows


def _advice(fit, num_devices):
    mesh = ""
    if fit["model_parallel"] > 1:
        others = num_devices // fit["model_parallel"]
        mesh = (
            f"on a mesh of {others} x {fit['model_parallel']} (batch x model: "
            "keras.distribution, JAX) "
        )
    flags = ["--remat"] * fit["remat"]
    flags.append(f"--micro_batches={fit['micro_batches']}")
    return f"{mesh}{' '.join(flags)} does: {_gigabytes(fit['total'])} GB"


def _gigabytes(count):
    return f"{count / 1e9:,.1f}"
