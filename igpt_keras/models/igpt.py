import pathlib

import keras
from keras import initializers
from keras import layers
from keras import ops

from igpt_keras import presets
from igpt_keras.backend import concrete
from igpt_keras.backend import num_replicas
from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.layers.token_and_position_embedding import (
    TokenAndPositionEmbedding,
)
from igpt_keras.layers.transformer_block import TransformerBlock
from igpt_keras.models import preset_directory

OBJECTIVES = ("autoregressive", "bert")


@keras.saving.register_keras_serializable(package="igpt_keras")
class IGPT(keras.Model):
    """Image GPT: a GPT-2 over the tokens of an image.

    The network of the released code, to the letter. It differs from the
    paper's text, and the code is what the published weights belong to: norms
    are root-mean-square with a gain only (epsilon 1e-5), there are no biases,
    GELU is `x * sigmoid(1.702 x)`, only the attention output projection is
    initialised by depth, and the output head is untied and starts at zero, so
    that a fresh model's loss is exactly `ln V`.

    Start token and shift are inside: train on `x = y = token_ids`, and
    `logits[:, i]` scores token `i`. `compile` without a loss uses the
    objective's own, in nats per token:

    - `"autoregressive"`: mean of `-log p(x_i | x_<i)` over all `N` tokens.
    - `"bert"`: no start token and no causal mask. Inputs are
      `{"token_ids": token_ids, "mask": mask}`; tokens where `mask` is `True`
      are hidden and predicted. Per image the mean over its hidden tokens, then
      the mean over images; an image with nothing hidden counts as 0.
      `igpt_keras.data.mask_tokens` draws the masks.

    Args:
        vocabulary_size: int. Number of tokens, `V`. Defaults to 512.
        sequence_length: int. Tokens per image, `N`. Defaults to 1024.
        num_layers: int. Number of blocks, `L`.
        num_heads: int. Attention heads; must divide `hidden_dim`.
        hidden_dim: int. Width, `D`.
        objective: `"autoregressive"` or `"bert"`.
        **kwargs: Base model arguments: `name`, `dtype`. Under
            `"mixed_bfloat16"` and `"mixed_float16"` weights, logits and loss
            stay float32, and `compile` scales the loss of the latter.

    Call arguments:
        inputs: int token ids `(B, N)` in `[0, V)`; for BERT the dict above.

    Returns:
        Logits, float32 `(B, N, V)`.

    Raises:
        ValueError: for sizes that do not fit together, and when called on
            token ids of the wrong shape, dtype or range.

    Example:
    >>> import numpy as np
    >>> model = IGPT(
    ...     vocabulary_size=16, sequence_length=64,
    ...     num_layers=2, num_heads=2, hidden_dim=8,
    ... )
    >>> tuple(model(np.zeros((3, 64), "int32")).shape)
    (3, 64, 16)
    >>> IGPT.from_preset("igpt_nano", sequence_length=64).num_layers
    8
    """

    def __init__(
        self,
        vocabulary_size=512,
        sequence_length=1024,
        num_layers=24,
        num_heads=8,
        hidden_dim=512,
        objective="autoregressive",
        dtype=None,
        **kwargs,
    ):
        check_positive_ints(
            vocabulary_size=vocabulary_size,
            sequence_length=sequence_length,
            num_layers=num_layers,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
        )
        if objective not in OBJECTIVES:
            raise ValueError(
                f"Unknown objective {objective!r}; choose one of {OBJECTIVES}."
            )
        if hidden_dim % num_heads:
            raise ValueError(
                f"num_heads={num_heads} does not divide hidden_dim="
                f"{hidden_dim}. Choose a num_heads that divides hidden_dim."
            )
        causal = objective == "autoregressive"

        # === Layers ===
        embedding = TokenAndPositionEmbedding(
            vocabulary_size,
            sequence_length,
            hidden_dim,
            shift=causal,
            dtype=dtype,
            name="embedding",
        )
        blocks = [
            TransformerBlock(
                num_heads,
                num_layers,
                causal=causal,
                dtype=dtype,
                name=f"block_{i}",
            )
            for i in range(num_layers)
        ]
        final_norm = layers.RMSNormalization(
            epsilon=1e-5, dtype=dtype, name="final_norm"
        )
        head = layers.Dense(
            vocabulary_size,
            use_bias=False,
            kernel_initializer=initializers.Zeros(),
            dtype="float32",
            name="head",
        )

        # === Functional model ===
        shape = (sequence_length,)
        token_ids = keras.Input(shape, dtype="int32", name="token_ids")
        if causal:
            inputs = token_ids
            x = embedding(token_ids)
        else:
            mask = keras.Input(shape, dtype="bool", name="mask")
            inputs = {"token_ids": token_ids, "mask": mask}
            x = embedding(token_ids, mask)
        for block in blocks:
            x = block(x)
        super().__init__(inputs=inputs, outputs=head(final_norm(x)), **kwargs)
        # A functional model's own policy is the global one; `compile` adds
        # loss scaling by it.
        self.dtype_policy = embedding.dtype_policy

        # === Config ===
        self.vocabulary_size = vocabulary_size
        self.sequence_length = sequence_length
        self.num_layers = num_layers
        self.num_heads = num_heads
        self.hidden_dim = hidden_dim
        self.objective = objective
        self.embedding = embedding
        self.blocks = blocks
        self.final_norm = final_norm
        self.head = head

    def call(self, inputs, training=None, mask=None):
        self.check_values(inputs)
        return super().call(inputs, training=training, mask=mask)

    def check_values(self, inputs):
        """`check_inputs`, but not while a function is traced.

        There is nothing to check then that `fit` has not, and under
        tf.distribute Keras traces token ids as floats.
        """
        tensors = keras.tree.flatten(inputs)
        if all(concrete(tensor) is not None for tensor in tensors):
            self.check_inputs(inputs)

    def check_inputs(self, inputs):
        """Raises a `ValueError` unless `inputs` are what this model takes.

        Shape and dtype are always checked, the range of the ids where their
        values are at hand: not inside a compiled function, where XLA would
        clamp them silently.
        """
        if self.objective == "bert":
            if not isinstance(inputs, dict) or set(inputs) != {
                "token_ids",
                "mask",
            }:
                raise ValueError(
                    "A BERT model takes a dict of `token_ids` and `mask` "
                    "(bool, True = hidden and predicted), received "
                    f"{_describe(inputs)}."
                )
            _check_shape("mask", inputs["mask"], self.sequence_length)
            inputs = inputs["token_ids"]
        elif isinstance(inputs, (dict, list, tuple)):
            raise ValueError(
                "An autoregressive model takes one tensor of token ids, "
                f"received {_describe(inputs)}."
            )
        _check_shape("token_ids", inputs, self.sequence_length)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        if "int" not in dtype:
            raise ValueError(
                f"token_ids must be integers, received {dtype}. Tokenize "
                "images first, with `PaletteTokenizer` for example."
            )
        values = concrete(inputs)
        if values is None or values.size == 0:
            return
        low, high = int(values.min()), int(values.max())
        if low < 0 or high >= self.vocabulary_size:
            raise ValueError(
                f"token_ids must be in [0, {self.vocabulary_size}), received "
                f"values from {low} to {high}. Use the tokenizer this model "
                "was made for, or set vocabulary_size to its size."
            )

    def compile(self, optimizer="adam", loss=None, **kwargs):
        """`keras.Model.compile`; without `loss`, the objective's own."""
        check_float16(self)
        if loss is None:
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compile_from_config(self, config):
        # Keras skips this for models that override `compile`.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def fit(self, x=None, *args, **kwargs):
        self._check_data(x)
        return super().fit(x, *args, **kwargs)

    def evaluate(self, x=None, *args, **kwargs):
        self._check_data(x)
        return super().evaluate(x, *args, **kwargs)

    def predict(self, x, *args, **kwargs):
        self._check_data(x)
        return super().predict(x, *args, **kwargs)

    def _check_data(self, x):
        """Checks arrays, and the shapes and dtypes of a `tf.data.Dataset`."""
        x = getattr(x, "element_spec", x)
        if isinstance(x, tuple) and x:
            x = x[0]
        token_ids = x.get("token_ids") if isinstance(x, dict) else x
        if hasattr(token_ids, "shape") and hasattr(token_ids, "dtype"):
            self.check_inputs(x)
        replicas = num_replicas(self)
        if (
            isinstance(x, dict)
            and replicas > 1
            and keras.backend.standardize_dtype(x["mask"].dtype) == "bool"
        ):
            raise ValueError(
                "Keras cannot average a bool mask over "
                f"{replicas} replicas when it traces the first batch. "
                "Cast the mask to int32, as "
                "`igpt_keras.data.mask_tokens` does."
            )

    def token_weights(self, mask):
        """Weights that make the mean over all `B x N` tokens BERT's loss.

        That is the mean over images of each image's mean over its hidden
        tokens. The reduction itself stays with Keras, which scales it right on
        any number of replicas.

        Args:
            mask: bool or int `(B, N)`, nonzero where hidden.

        Returns:
            float32 `(B, N)`.
        """
        hidden = ops.cast(mask, "float32")
        count = ops.sum(hidden, axis=1, keepdims=True)
        return hidden * self.sequence_length / ops.maximum(count, 1.0)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if self.objective == "bert":
            weight = self.token_weights(x["mask"])
            if sample_weight is not None:
                sample_weight = ops.cast(sample_weight, "float32")
                if len(sample_weight.shape) == 1:
                    sample_weight = sample_weight[:, None]
                weight = weight * sample_weight
            sample_weight = weight
        return super().compute_loss(
            x=x,
            y=y,
            y_pred=y_pred,
            sample_weight=sample_weight,
            training=training,
        )

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "vocabulary_size": self.vocabulary_size,
            "sequence_length": self.sequence_length,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "objective": self.objective,
        }

    @classmethod
    def from_preset(cls, preset, interpolate_positions=False, **overrides):
        """Builds a model of a named size, or opens a saved one.

        Args:
            preset: one of `igpt_keras.presets.IGPT` (`"igpt_s"`, ...), which
                gives fresh weights, or a directory made by `save_to_preset`.
            interpolate_positions: bool. Whether a directory's position table
                is resized, as a two-dimensional grid, to another
                `sequence_length`: 2304 starts a 48x48 model from a 32x32 one.
                Defaults to `False`.
            **overrides: Constructor arguments that replace the preset's, such
                as `sequence_length`. Not for a directory, whose weights fit
                one architecture; `name` and `dtype` are always allowed.

        Raises:
            ValueError: if `preset` is neither, or a directory is damaged, was
                made by a newer version or does not fit `sequence_length`.
        """
        if isinstance(preset, str) and preset in presets.IGPT:
            if preset_directory.is_preset(pathlib.Path(preset)):
                raise ValueError(
                    f"{preset!r} is a named size, and a preset directory here. "
                    f"Pass './{preset}' for the directory."
                )
            return cls(**{**presets.IGPT[preset], **overrides})
        return preset_directory.load(
            cls, preset, interpolate_positions, overrides
        )

    def save_to_preset(self, directory, tokenizer=None):
        """Saves configuration and weights as a directory, whole or not at all.

        Args:
            directory: path to create, or to replace if it is a preset.
            tokenizer: optional tokenizer to save along, so that one path is
                all a user passes on; reopen it with its own `from_preset`.

        Raises:
            ValueError: if `directory` exists and is not a preset or holds
                other files too, the weights are not finite, or the
                tokenizer's vocabulary is not the model's.
        """
        preset_directory.save(self, directory, tokenizer)


def check_float16(model):
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


def _check_shape(name, tensor, sequence_length):
    shape = tuple(getattr(tensor, "shape", ()))
    if len(shape) != 2 or shape[1] != sequence_length:
        raise ValueError(
            f"{name} must have shape (batch, {sequence_length}), received "
            f"{shape}. The model was built with sequence_length="
            f"{sequence_length}: flatten each image to that many tokens, or "
            "build the model for yours."
        )


def _describe(inputs):
    if isinstance(inputs, dict):
        return f"a dict of {sorted(inputs)}"
    if isinstance(inputs, (list, tuple)):
        return f"a {type(inputs).__name__} of {len(inputs)}"
    return f"a tensor of shape {tuple(getattr(inputs, 'shape', ()))}"
