"""Several devices on JAX: who holds which part of the weights and the batch."""

import contextlib
import math

import keras

# Where a weight of an `IGPT` is split, by its path; all else is on every
# device. Each pair of products, query and output, up and down, meets once.
_LAYOUT = {
    r"(.*/)?attention/(query|key|value)/kernel": (None, "model", None),
    r"(.*/)?attention/output_projection/kernel": ("model", None, None),
    r"(.*/)?mlp_up/kernel": (None, "model"),
    r"(.*/)?mlp_down/kernel": ("model", None),
    # By width, which the heads divide; vocabularies are of any size.
    r"(.*/)?token_embedding": (None, "model"),
    r"(.*/)?head/kernel": ("model", None),
}


def igpt_layout_map(mesh):
    """Where the weights of an `IGPT` are split, after Shoeybi et al. (2019).

    Query, key and value kernels `(D, H, K)` and the output projection
    `(H, K, D)` by heads, `mlp_up` `(D, 4 D)` by columns, `mlp_down` by rows,
    token embedding `(V, D)` and head `(D, V)` by width; position embedding,
    norms and a class head are whole everywhere. Adam's moments follow their
    weights.

    Args:
        mesh: `keras.distribution.DeviceMesh` with an axis `"model"`.

    Returns:
        `keras.distribution.LayoutMap`.
    """
    layout_map = keras.distribution.LayoutMap(mesh)
    for path, axes in _LAYOUT.items():
        layout_map[path] = axes
    return layout_map


def device_mesh(
    data_parallel=None,
    model_parallel=1,
    num_heads=None,
    batch_size=None,
    micro_batches=1,
):
    """Sizes of the mesh of all devices, if they fit together.

    Args:
        data_parallel: int. Shares of a batch, `N`. Defaults to all devices over
            `model_parallel`.
        model_parallel: int. Devices that share each weight, `M`. Defaults to 1.
        num_heads: int. Of the network, which `M` must divide. Defaults to not
            looking.
        batch_size: int. Images in a batch. Defaults to not looking.
        micro_batches: int. Parts of each share of it. Defaults to 1.

    Returns:
        `(N, M)`.

    Raises:
        ValueError: if they do not; it names the two nearest that do.
    """
    devices = keras.distribution.get_device_count()
    found = data_parallel or max(1, devices // model_parallel), model_parallel
    splits_heads = num_heads is None or num_heads % model_parallel == 0
    if math.prod(found) != devices or not splits_heads:
        valid = [
            m
            for m in range(1, devices + 1)
            if devices % m == 0 and (num_heads is None or num_heads % m == 0)
        ]
        valid.sort(key=lambda m: abs(math.log(m / model_parallel)))
        nearest = [
            f"--data_parallel={devices // m} --model_parallel={m}"
            for m in sorted(valid[:2])
        ]
        heads = "" if num_heads is None else f" and {num_heads} heads"
        raise ValueError(
            f"data_parallel={found[0]} times model_parallel={found[1]} does "
            f"not fit {devices} devices{heads}; use {' or '.join(nearest)}."
        )
    if batch_size is not None:
        check_batch(batch_size, found[0], micro_batches)
    return found


def check_batch(batch_size, replicas, micro_batches=1):
    """Raises a `ValueError` unless a batch divides among them."""
    parts = replicas * micro_batches
    if batch_size % parts:
        down = batch_size // parts * parts
        micro = f" and {micro_batches} micro-batches"
        raise ValueError(
            f"batch_size={batch_size} does not divide among {replicas} replicas"
            f"{micro if micro_batches > 1 else ''}; use {down or parts} or "
            f"{down + parts}."
        )


def mesh_distribution(data_parallel=None, model_parallel=1):
    """The distribution over all devices, to put in force before a model is.

    Args:
        data_parallel: see `device_mesh`.
        model_parallel: see there.

    Returns:
        `keras.distribution.DataParallel`, or for several `model_parallel`
        `ModelParallel` on a mesh of `"batch"` and `"model"`. Unlike Keras's
        they give every device the whole of a batch that they do not divide,
        such as the last one.

    Raises:
        ValueError: if the sizes do not fit, or the backend is not JAX.
    """
    if keras.backend.backend() != "jax":
        # On TensorFlow Keras would leave the distribution out silently.
        raise ValueError(
            "data_parallel and model_parallel are keras.distribution and need "
            f"the JAX backend, this is {keras.backend.backend()}. Set "
            "KERAS_BACKEND=jax; on TensorFlow use --strategy."
        )
    shape = device_mesh(data_parallel, model_parallel)
    if model_parallel == 1:
        mesh = keras.distribution.DeviceMesh(shape[:1], ["batch"])
        return _Data(device_mesh=mesh, auto_shard_dataset=False)
    mesh = keras.distribution.DeviceMesh(shape, ["batch", "model"])
    return _Model(layout_map=igpt_layout_map(mesh), auto_shard_dataset=False)


@contextlib.contextmanager
def on_own_devices():
    """Inside, the mesh in force is one of this process's own devices.

    For a copy of the model that one of several processes has to itself.
    """
    whole = keras.distribution.distribution()
    stay_on_own_devices()
    try:
        yield
    finally:
        keras.distribution.set_distribution(whole)


def stay_on_own_devices():
    """`on_own_devices` for the rest of the program."""
    whole = keras.distribution.distribution()
    keras.distribution.set_distribution(_own_distribution(whole))


def _own_distribution(whole):
    import jax

    devices = [f"{d.platform}:{d.id}" for d in jax.local_devices()]
    shape = whole.device_mesh.shape
    if len(shape) == 1:
        mesh = keras.distribution.DeviceMesh([len(devices)], ["batch"], devices)
        return _Data(device_mesh=mesh, auto_shard_dataset=False)
    size = math.gcd(shape[1], len(devices))
    mesh = keras.distribution.DeviceMesh(
        (len(devices) // size, size), ["batch", "model"], devices
    )
    return _Model(layout_map=igpt_layout_map(mesh), auto_shard_dataset=False)


class _UnevenBatches:
    """Whole batches on every device where their rows do not divide."""

    def get_data_layout(self, data_shape):
        mesh = self.device_mesh.backend_mesh
        processes = {device.process_index for device in mesh.devices.flat}
        shares = max(1, self.num_model_replicas // len(processes))
        if data_shape[0] % shares == 0:
            return super().get_data_layout(data_shape)
        whole = [None] * len(data_shape)
        return keras.distribution.TensorLayout(whole, self.device_mesh)


class _Data(_UnevenBatches, keras.distribution.DataParallel):
    pass


class _Model(_UnevenBatches, keras.distribution.ModelParallel):
    pass
