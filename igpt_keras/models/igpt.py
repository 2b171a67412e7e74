import keras
import numpy as np
from keras import layers
from keras import ops

from igpt_keras import presets
from igpt_keras.backend import balance_replicas
from igpt_keras.backend import concrete
from igpt_keras.backend import outside_replicas
from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.layers.dropout import Dropout
from igpt_keras.layers.token_and_position_embedding import (
    TokenAndPositionEmbedding,
)
from igpt_keras.layers.transformer_block import TransformerBlock
from igpt_keras.models import igpt_checks
from igpt_keras.models import own_network
from igpt_keras.models import preset_directory
from igpt_keras.models.attention_pattern import PREFIX
from igpt_keras.models.attention_pattern import read_attention
from igpt_keras.models.checked_model import CheckedModel
from igpt_keras.models.checked_model import nan_unless_ids
from igpt_keras.models.checked_model import tokenwise
from igpt_keras.models.input_tensors import input_tensors
from igpt_keras.models.masked_metrics import Masked
from igpt_keras.models.masked_metrics import check_mean_metrics
from igpt_keras.models.output_head import output_head
from igpt_keras.models.predicted_tokens import predicted_tokens
from igpt_keras.storage.user_path import user_path

OBJECTIVES = ("autoregressive", "bert")


@keras.saving.register_keras_serializable(package="igpt_keras")
class IGPT(CheckedModel):
    """Image GPT: a GPT-2 over the tokens of an image.

    The network of the released code, to the letter. It differs from the
    paper's text, and the code is what the published weights belong to: norms
    are root-mean-square with a gain only (epsilon 1e-5), there are no biases,
    GELU is `x * sigmoid(1.702 x)`, only the attention output projection is
    initialised by depth, and the output head is untied and starts at zero, so
    that a fresh model's loss is exactly `ln V`.

    Start token and shift are inside: `fit(token_ids)` trains on `x = y`, and
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
        num_layers: int. Number of blocks, `L`. Defaults to 24, iGPT-S's.
        num_heads: int, which divides `hidden_dim`. Defaults to 8.
        hidden_dim: int. Width, `D`. Defaults to 512.
        objective: `"autoregressive"`, the default, or `"bert"`.
        head: what gives the logits (section A.1): `"zeros"`, the default and
            the released code's, a matrix that starts at zero; `"normal"`, of
            standard deviation 0.02; `"tied"`, the token embedding.
        depth_scaled_mlp: bool. Whether `mlp_down` starts from
            `0.02 / sqrt(L)`, as the paper's text has it and the released code
            has not. Defaults to `False`.
        dropout: float in [0, 1). Share of the embeddings, and of each residual
            branch's outputs, that training drops. Defaults to 0.
        remat: bool. Whether training recomputes every block in the backward
            pass to save memory, see `TransformerBlock`. Defaults to `False`.
        block: class, or function, with the arguments of `TransformerBlock`,
            that makes one block. Registered by
            `keras.saving.register_keras_serializable` it is in what is saved.
            Defaults to `None`, `TransformerBlock`. `docs/variants.md` has
            others.
        order: str. What the tokens are predicted in, the permutation of
            section 2.1: `"raster"`, `"columns"`, `"reversed"`, `"spiral"`,
            `"z_curve"` or `"random:SEED"`, see `igpt_keras.layers.pixel_order`.
            Inside alone: inputs, logits and samples stay in raster order, and
            so does the position table. Defaults to `"raster"`. BERT, which
            looks both ways, is the same function in each.
        attention: str. What each position attends to. `"causal"`: to those
            before it and itself. `"prefix_causal"` (AIM, El-Nouby et al.
            2024, section 3.2): the first tokens of `order` see each other, and
            are not predicted. Inputs are `{"token_ids": token_ids,
            "prefix_length": prefix_length}`, the latter int `(B,)` in
            `[0, N]`: position `i` attends to those `<= max(i, prefix_length)`;
            the start token is at 0. The loss is, as BERT's, each image's mean
            over its predicted tokens, then the mean over images.
            `igpt_keras.data.draw_prefixes` draws lengths. With 0 the model is
            causal and the loss the whole image's; features are taken with `N`.
            `"block_causal:K"`: by squares of `K` x `K` tokens (XTRA, Amrani et
            al. 2024). `order` is then one of squares, each row by row. The
            positions of a square hold the tokens of the one before it, those
            of the first the start token; they attend to each other and to all
            squares before, and predict the square's tokens, independent of
            each other given what is before. The loss is theirs, over all `N`
            tokens. `"none"`: to all, BERT's. Defaults to `None`, the
            objective's own: causal, and none for BERT.
        **kwargs: Base model arguments: `name`, `dtype`. Under
            `"mixed_bfloat16"` and `"mixed_float16"` weights, logits and loss
            stay float32, and `compile` scales the loss of the latter.

    Call arguments:
        inputs: int token ids `(B, N)` in `[0, V)`; for BERT, or with a
            prefix, the dict above.

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

    _has_own_targets = False

    def __init__(
        self,
        vocabulary_size=512,
        sequence_length=1024,
        num_layers=24,
        num_heads=8,
        hidden_dim=512,
        objective="autoregressive",
        head="zeros",
        depth_scaled_mlp=False,
        dropout=0.0,
        remat=False,
        block=None,
        order="raster",
        attention=None,
        dtype=None,
        **kwargs,
    ):
        sizes = check_positive_ints(
            vocabulary_size=vocabulary_size,
            sequence_length=sequence_length,
            num_layers=num_layers,
            num_heads=num_heads,
            hidden_dim=hidden_dim,
        )
        vocabulary_size, sequence_length, num_layers, num_heads = sizes[:4]
        hidden_dim = sizes[4]
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
        pattern, square_side = read_attention(attention, objective)

        # === Layers ===
        embedding = TokenAndPositionEmbedding(
            vocabulary_size,
            sequence_length,
            hidden_dim,
            shift=causal,
            order=order,
            square_side=square_side,
            dtype=dtype,
            name="embedding",
        )
        block = own_network.find_block(block, TransformerBlock)
        others = own_network.ordering_arguments(block, order, square_side)
        blocks = [
            block(
                num_heads,
                num_layers,
                causal=causal,
                dropout=dropout,
                depth_scaled_mlp=depth_scaled_mlp,
                remat=remat,
                **others,
                dtype=dtype,
                name=f"block_{i}",
            )
            for i in range(num_layers)
        ]
        final_norm = layers.RMSNormalization(
            epsilon=1e-5, dtype=dtype, name="final_norm"
        )
        head_layer = output_head(head, embedding)

        # === Functional model ===
        tensors = input_tensors(sequence_length, pattern)
        told = {}
        if pattern == PREFIX:
            told["prefix_length"] = tensors["prefix_length"]
            own_network.check_takes_prefix(blocks[0])
        x = embedding(tensors["token_ids"], tensors.get("mask"))
        x = Dropout(dropout, dtype=dtype, name="embedding_dropout")(x)
        for layer in blocks:
            x = layer(x, **told)
        x = final_norm(x)
        if not embedding.is_raster:
            x = ops.take(x, np.argsort(embedding.permutation), axis=1)
        x = head_layer(x)
        inputs = tensors if len(tensors) > 1 else tensors["token_ids"]
        super().__init__(inputs=inputs, outputs=x, **kwargs)
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
        self.head = head_layer
        self.head_kind = head
        self.depth_scaled_mlp = depth_scaled_mlp
        self.dropout = dropout
        self.remat = remat
        self.block = block
        self.order = order
        self.attention = pattern
        # `None` where it is the objective's own, as older files have it.
        own, _ = read_attention(None, objective)
        self.given_attention = None if pattern == own else pattern
        self.takes_prefix = pattern == PREFIX

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
        igpt_checks.check_inputs(self, inputs)

    def check_targets(self, targets):
        """Raises a `ValueError` unless `targets` are token ids `(B, N)`.

        `None` are those of the inputs. With a loss of your own other targets
        may be right, and none are checked.
        """
        if self._has_own_targets or targets is None:
            return
        igpt_checks.check_targets(self, targets)

    def check_weights(self, sample_weight):
        """Raises a `ValueError` unless weights are of images or tokens."""
        igpt_checks.check_weights(self, sample_weight)

    def compile(self, optimizer="adam", loss=None, metrics=None, **kwargs):
        """`keras.Model.compile`; without `loss`, the objective's own.

        Metrics are of the tokens that are predicted, BERT's hidden ones or
        those after a prefix: `"accuracy"` is the share of them that are right.
        A loss that takes the logits for probabilities is a `ValueError`.
        """
        if isinstance(self.input, dict):
            check_mean_metrics(metrics, kwargs.get("weighted_metrics"))
        igpt_checks.check_loss(loss)
        sparse = keras.losses.SparseCategoricalCrossentropy
        self._has_own_targets = not (loss is None or isinstance(loss, sparse))
        if loss is None:
            loss = sparse(from_logits=True)
        super().compile(
            optimizer=optimizer, loss=loss, metrics=metrics, **kwargs
        )

    def compile_from_config(self, config):
        # Keras skips this for models that override `compile`.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def _check_data(self, x, y, arguments):
        if arguments.get("class_weight") is not None:
            raise ValueError(
                "An IGPT has no classes to weigh: pass sample_weight, a weight "
                "for each image or token."
            )
        return super()._check_data(x, y, arguments)

    def token_weights(self, mask):
        """Weights that make the mean over all `B x N` tokens the loss of some.

        That is the mean over images of each image's mean over its predicted
        tokens. The reduction itself stays with Keras, which scales it right on
        any number of replicas.

        Args:
            mask: bool or int `(B, N)`, nonzero where predicted.

        Returns:
            float32 `(B, N)`.
        """
        hidden = ops.cast(ops.cast(mask, "bool"), "float32")
        count = ops.sum(hidden, axis=1, keepdims=True)
        return hidden * self.sequence_length / ops.maximum(count, 1.0)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if not outside_replicas():  # where Keras averages the first batch
            self.check_targets(y)
        token_ids = x["token_ids"] if isinstance(x, dict) else x
        y = token_ids if y is None else y
        weight = self._weigh_tokens(token_ids, sample_weight)
        predicted = predicted_tokens(self, x)
        if predicted is not None:
            predicted = self.token_weights(predicted)
            weight = predicted if weight is None else weight * predicted
        loss = super().compute_loss(
            x=x, y=y, y_pred=y_pred, sample_weight=weight, training=training
        )
        ids = [token_ids] if self._has_own_targets else [token_ids, y]
        limits = [(i, self.vocabulary_size) for i in ids]
        if self.takes_prefix:
            limits.append((x["prefix_length"], self.sequence_length + 1))
        loss = nan_unless_ids(loss, *limits)
        return balance_replicas(loss, ops.shape(token_ids)[0])

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        token_ids = x["token_ids"] if isinstance(x, dict) else x
        predicted = predicted_tokens(self, x)
        if predicted is not None:
            y_pred = Masked(predicted)(y_pred)
        y = token_ids if y is None else y
        weight = self._weigh_tokens(token_ids, sample_weight)
        return super().compute_metrics(x, y, y_pred, weight)

    def _weigh_tokens(self, token_ids, sample_weight):
        if sample_weight is not None:
            self.check_weights(sample_weight)
        return tokenwise(sample_weight, token_ids)

    def get_config(self):
        if preset_directory.is_quantized(self):
            raise ValueError(
                "A quantized IGPT has no configuration that builds it again. "
                "Save it before `quantize`, and quantize what is opened."
            )
        named = preset_directory.named_variables(self)
        frozen = preset_directory.frozen_names(named) if self.trainable else []
        config = {
            **({"frozen": frozen} if frozen else {}),
            "name": self.name,
            "trainable": self.trainable,
            "dtype": keras.saving.serialize_keras_object(self.dtype_policy),
            "vocabulary_size": self.vocabulary_size,
            "sequence_length": self.sequence_length,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "hidden_dim": self.hidden_dim,
            "objective": self.objective,
            "head": self.head_kind,
            "depth_scaled_mlp": self.depth_scaled_mlp,
            "dropout": self.dropout,
            "remat": self.remat,
            "block": own_network.registered_name(self.block),
            "order": self.order,
            "attention": self.given_attention,
        }
        return own_network.final_config(type(self), IGPT, config)

    @classmethod
    def from_config(cls, config):
        config = dict(config)
        frozen = config.pop("frozen", [])
        model = cls(**config)
        named = preset_directory.named_variables(model)
        preset_directory.freeze(named, frozen)
        return model

    @classmethod
    def from_preset(cls, preset, interpolate_positions=False, **overrides):
        """Builds a model of a named size, or opens a saved one.

        Args:
            preset: one of `igpt_keras.presets.IGPT` (`"igpt_s"`, ...), which
                gives fresh weights, one of `igpt_keras.presets.PRETRAINED`
                (`"igpt_micro_cifar10"`), which gives trained ones, or a
                directory made by `save_to_preset`.
            interpolate_positions: bool. Whether a directory's position table
                is resized, as a two-dimensional grid, to another
                `sequence_length`: 2304 starts a 48x48 model from a 32x32 one.
                Defaults to `False`.
            **overrides: Constructor arguments that replace the preset's, such
                as `sequence_length`. Of a directory, whose weights fit one
                architecture, `name`, `dtype`, `dropout` and `remat` alone.

        Raises:
            ValueError: if `preset` is none of them, or a directory is damaged,
                was made by a newer version or does not fit `sequence_length`.
        """
        if isinstance(preset, str) and preset in presets.IGPT:
            if preset_directory.is_preset(user_path(preset)):
                raise ValueError(
                    f"{preset!r} is a named size, and a preset directory here. "
                    f"Pass './{preset}' for the directory."
                )
            return cls(**{**presets.IGPT[preset], **overrides})
        return preset_directory.load(
            cls, presets.preset_path(preset), interpolate_positions, overrides
        )

    def save_to_preset(self, directory, tokenizer=None):
        """Saves configuration and weights as a directory, whole or not at all.

        Args:
            directory: path to create, or to replace if it is a preset, and
                its model card with it.
            tokenizer: optional tokenizer to save along, so that one path is
                all a user passes on; reopen it with its own `from_preset`.

        Raises:
            ValueError: if `directory` exists and is no preset, or holds other
                files or a tokenizer that would be lost, weights are not finite,
                LoRA's or quantized, or classes or the tokenizer do not fit.
        """
        preset_directory.save(self, directory, tokenizer)
