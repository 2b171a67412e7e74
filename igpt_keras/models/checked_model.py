import keras
import numpy as np
from absl import logging
from keras import ops

from igpt_keras.backend import concrete
from igpt_keras.backend import evaluate_on_mesh
from igpt_keras.backend import num_replicas
from igpt_keras.backend import on_mesh
from igpt_keras.layers.check_shares import check_array_shares
from igpt_keras.layers.check_shares import check_shares
from igpt_keras.models.check_replicas import check_replicas


class CheckedModel(keras.Model):
    """A model that looks at its data before Keras does.

    Arrays are checked whole, and datasets of `tf.data` by what they say of
    themselves; batches of generators when they come into a compiled function,
    by shape and dtype. Values are out of sight there: `nan_unless_ids` makes
    the loss NaN, and a log line says what that may mean.

    Subclasses define `check_inputs(inputs)`, `check_targets(targets)` and
    `check_weights(sample_weight)`, which raise a `ValueError`.
    """

    def compile(
        self,
        optimizer="adam",
        *args,
        steps_per_execution=1,
        jit_compile="auto",
        **kwargs,
    ):
        _check_float16(self)
        check_replicas(self, optimizer, steps_per_execution, jit_compile)
        super().compile(
            optimizer,
            *args,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            **kwargs,
        )

    def fit(
        self,
        x=None,
        y=None,
        batch_size=None,
        epochs=1,
        verbose="auto",
        callbacks=None,
        **kwargs,
    ):
        y, kwargs = self._check_data(x, y, kwargs)
        validation = kwargs.get("validation_data")
        split = kwargs.get("validation_split") if validation is None else 0
        validation_batch_size = kwargs.get("validation_batch_size")
        self._check_shares(x, batch_size, split, validation_batch_size)
        if isinstance(validation, (list, tuple)):
            names = ("x", "y", "sample_weight")
            named = dict(zip(names, validation))
            val_x, val_y = named.pop("x", None), named.pop("y", None)
            val_y, named = self._check_data(val_x, val_y, named)
            self._check_shares(val_x, validation_batch_size or batch_size)
            kwargs["validation_data"] = (val_x, val_y, *named.values())
        elif validation is not None:
            self._check_data(validation, None, {})
            if not on_mesh():
                self._check_shares(validation)
        if not isinstance(callbacks, keras.callbacks.CallbackList):
            callbacks = [*keras.tree.flatten(callbacks or []), _NameNaN()]
        return super().fit(
            x, y, batch_size, epochs, verbose, callbacks, **kwargs
        )

    def evaluate(self, x=None, y=None, *args, **kwargs):
        y, kwargs = self._check_data(x, y, kwargs)
        if on_mesh() and hasattr(x, "element_spec") and not args:
            # Which takes uneven batches.
            result = evaluate_on_mesh(self, x)
            if not kwargs.get("return_dict"):
                result = self._flatten_metrics_in_order(result)
        else:
            self._check_shares(x, *args[:1] or [kwargs.get("batch_size")])
            result = super().evaluate(x, y, *args, **kwargs)
        loss = result["loss"] if isinstance(result, dict) else result
        _name_nan(np.ravel(loss)[0])
        return result

    def predict(self, x, *args, **kwargs):
        self._check_x(x)
        return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        kwargs = {**kwargs, "sample_weight": sample_weight}
        y, kwargs = self._check_data(x, y, kwargs)
        return super().train_on_batch(x, y, **kwargs)

    def test_on_batch(self, x, y=None, sample_weight=None, **kwargs):
        kwargs = {**kwargs, "sample_weight": sample_weight}
        y, kwargs = self._check_data(x, y, kwargs)
        return super().test_on_batch(x, y, **kwargs)

    def predict_on_batch(self, x):
        self._check_x(x)
        return super().predict_on_batch(x)

    def _run_through_graph(self, inputs, **functions):
        if len(functions) == 2:
            raise ValueError(
                f"A {type(self).__name__} cannot be cloned by "
                "keras.models.clone_model, which would make a plain model of "
                "its layers that knows no objective. Use "
                "type(model).from_config(model.get_config()), and set_weights "
                "for the same weights."
            )
        return super()._run_through_graph(inputs, **functions)

    def _check_data(self, x, y, arguments):
        """Checks `fit`'s `x`, `y` and arguments; lists in them as arrays."""
        spec = getattr(x, "element_spec", None)
        if spec is not None:
            parts = spec if isinstance(spec, tuple) else (spec,)
            x, targets, weight = (*parts, None, None)[:3]
            self._check_x(x)
            self.check_targets(targets)
        elif self._check_x(x):
            if y is not None and not hasattr(y, "shape"):
                y = np.asarray(y)
            self.check_targets(y)
            weight = arguments.get("sample_weight")
            if weight is not None and not hasattr(weight, "shape"):
                weight = np.asarray(weight)
                arguments = {**arguments, "sample_weight": weight}
            rows = keras.tree.flatten(x)[0].shape[0]
            for name, given in (("y", y), ("sample_weight", weight)):
                if given is not None and tuple(given.shape)[:1] != (rows,):
                    raise ValueError(
                        f"{name} has shape {tuple(given.shape)}, and x has "
                        f"{rows} rows. Pass one row for each image."
                    )
        else:
            weight = None
        if weight is not None:
            self.check_weights(weight)
        return y, arguments

    def _check_shares(self, x, *sizes):
        """`check_shares` of arrays and of what `tf.data` yields."""
        first = keras.tree.flatten(getattr(x, "element_spec", x))[0]
        if not is_known(first):
            return
        if first is keras.tree.flatten(x)[0]:
            check_array_shares(self, first.shape[0], *sizes)
        else:
            check_shares(self, x, {"first": first.shape[0]})

    def _check_x(self, x):
        """Whether `x` is a batch's inputs and not what yields batches."""
        x = getattr(x, "element_spec", x)
        if isinstance(x, tuple) and x and hasattr(x[0], "shape"):
            x = x[0]
        if isinstance(x, dict) and not all(map(is_known, x.values())):
            return False
        plain = isinstance(x, (dict, list, tuple, str, int, float))
        if not plain and not is_known(x):
            return False
        self.check_inputs(x)
        shape = tuple(keras.tree.flatten(x)[0].shape)
        if shape[:1] == (0,):
            raise ValueError(
                f"The batch is empty: its inputs have shape {shape}. Pass at "
                "least one image."
            )
        replicas = num_replicas(self)
        if (
            isinstance(x, dict)
            and replicas > 1
            and "mask" in x
            and _dtype_name(x["mask"]) == "bool"
        ):
            raise ValueError(
                "Keras cannot average a bool mask over "
                f"{replicas} replicas when it traces the first batch. "
                "Cast the mask to int32, as "
                "`igpt_keras.data.mask_tokens` does."
            )
        return True


class _NameNaN(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        _name_nan((logs or {}).get("loss", 0.0))


def _name_nan(loss):
    if np.isnan(loss):
        logging.warning(
            "The loss is NaN. Either training diverged (a lower learning rate "
            "helps), or a generator yielded token ids or labels out of the "
            "model's range: check them against vocabulary_size and num_classes."
        )


def is_known(tensor):
    """Whether a tensor or its specification has a dtype and a rank."""
    if not hasattr(tensor, "dtype"):
        return False
    shape = getattr(tensor, "shape", None)
    # `tf.TensorShape` of unknown rank.
    return shape is not None and getattr(shape, "rank", 0) is not None


def check_ids(name, ids, shape, limit, hint, kinds=("int",)):
    """Raises a `ValueError` unless `ids` are ints of a shape and below `limit`.

    Args:
        name: str, for the message.
        ids: tensor, array, or specification of a tensor.
        shape: tuple, `None` for dimensions of any size.
        limit: int. Checked where values are at hand.
        hint: str, the end of the message.
        kinds: kinds of dtype that are right.
    """
    if ids is not None and hasattr(ids, "dtype") and not is_known(ids):
        return
    found = tuple(getattr(ids, "shape", ()))
    expected = str(tuple(d or "batch" for d in shape)).replace("'", "")
    if len(found) != len(shape) or any(
        want not in (None, size) and size is not None
        for want, size in zip(shape, found)
    ):
        received = f"shape {found}" if hasattr(ids, "shape") else repr(ids)
        raise ValueError(
            f"{name} must have shape {expected}, received {received}. {hint}"
        )
    dtype = _dtype_name(ids)
    if not any(kind in dtype for kind in kinds):
        raise ValueError(f"{name} must be integers, received {dtype}. {hint}")
    values = concrete(ids)
    if values is None or values.size == 0:
        return
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= limit:
        raise ValueError(
            f"{name} must be in [0, {limit}), received values from {low} to "
            f"{high}. {hint}"
        )


def _dtype_name(tensor):
    return getattr(tensor.dtype, "name", str(tensor.dtype))


def nan_unless_ids(loss, *ids_and_limits):
    """The loss, NaN if any int of a batch is out of its range.

    XLA clamps such ids, JAX gives such labels no loss, and a compiled function
    cannot raise.
    """
    for ids, limit in ids_and_limits:
        # In whose own few bits a limit wraps around.
        dtype = keras.backend.standardize_dtype(ids.dtype)
        if dtype in ("int8", "uint8", "int16", "uint16"):
            ids = ops.cast(ids, "int32")
        right = ops.logical_and(ops.all(ids >= 0), ops.all(ids < limit))
        loss = loss + ops.where(right, 0.0, float("nan"))
    return loss


def tokenwise(sample_weight, token_ids):
    """Weights `(B,)` or `(B, N)` as float32 `(B, N)`; `None` stays."""
    if sample_weight is None:
        return None
    weight = ops.cast(sample_weight, "float32")
    if len(weight.shape) == 2:
        return ops.reshape(weight, ops.shape(token_ids))
    # Not broadcast: another number of weights is an error.
    weight = ops.reshape(weight, (ops.shape(token_ids)[0], 1))
    return weight * ops.ones_like(token_ids, "float32")


def _check_float16(model):
    """Raises a `ValueError` if gradients in float16 would be lost."""
    policy = model.dtype_policy
    if policy.variable_dtype == "float16":
        raise ValueError(
            f"dtype={policy.name!r} keeps the weights in float16, where small "
            "gradients and Adam's second moments are zero. Train under "
            "'mixed_float16' or 'mixed_bfloat16'."
        )
    if policy.compute_dtype == "float16" and num_replicas(model) > 1:
        raise ValueError(
            f"dtype={policy.name!r} needs loss scaling, which Keras cannot do "
            "on several replicas of tf.distribute. Use 'mixed_bfloat16'."
        )


def describe(inputs):
    """What a caller passed as inputs, for an error."""
    if isinstance(inputs, dict):
        return f"a dict of {sorted(inputs)}"
    if isinstance(inputs, (list, tuple)):
        return f"a {type(inputs).__name__} of {len(inputs)}"
    return f"a tensor of shape {tuple(getattr(inputs, 'shape', ()))}"
