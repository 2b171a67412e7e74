import keras
from keras import initializers
from keras import layers
from keras import ops

from igpt_keras import presets
from igpt_keras.backend import balance_replicas
from igpt_keras.backend import outside_replicas
from igpt_keras.layers.check_positive_ints import check_positive_ints
from igpt_keras.models import preset_directory
from igpt_keras.models.checked_model import CheckedModel
from igpt_keras.models.checked_model import check_ids
from igpt_keras.models.checked_model import nan_unless_ids
from igpt_keras.models.checked_model import tokenwise
from igpt_keras.models.igpt import IGPT
from igpt_keras.models.own_network import check_call
from igpt_keras.models.own_network import final_config
from igpt_keras.models.predicted_tokens import predicted_tokens
from igpt_keras.storage.user_path import user_path


@keras.saving.register_keras_serializable(package="igpt_keras")
class IGPTClassifier(CheckedModel):
    """Image GPT with a class head, for fine-tuning (section 2.3).

    The class logits are a linear map, without bias and starting at zero, of the
    final norm's output averaged over positions, or of the feature of an earlier
    layer. The loss is the paper's joint objective, `generative loss +
    classification loss`; both are means, and the generative one is over all
    tokens of the sequence.

    Train on `x = token_ids` (for BERT the dict with a mask) and `y = labels`,
    int `(B,)` in `[0, C)`. Of a model of `attention="prefix_causal"` the inputs
    are the dict with a `prefix_length`, which is that of the generative loss:
    classes are read off a second pass, whose prefix is the whole image. A
    `sample_weight` `(B,)` weighs images: both losses of each.

    Args:
        model: an `IGPT`; its weights are shared and trained on.
        num_classes: int. Number of classes, `C`.
        generative_weight: float >= 0. Weight of the generative loss. Defaults
            to 1, the paper's; 0 fine-tunes on classes alone.
        classification_weight: float >= 0. Weight of the classification loss.
            Defaults to 1.
        head_layer: int in [0, L]. Layer whose feature the classes are read off,
            see `extract_features`. Defaults to `L`, the final norm.
        **kwargs: Base model arguments, such as `name`.

    Call arguments:
        inputs: what `model` takes.

    Returns:
        dict of float32 `token_logits` `(B, N, V)` and `class_logits` `(B, C)`.

    Raises:
        ValueError: if an argument is not of that kind.

    Example:
    >>> import numpy as np
    >>> model = IGPT.from_preset("igpt_nano", sequence_length=16)
    >>> classifier = IGPTClassifier(model, num_classes=10)
    >>> outputs = classifier(np.zeros((2, 16), "int32"))
    >>> tuple(outputs["class_logits"].shape)
    (2, 10)
    """

    def __init__(
        self,
        model,
        num_classes,
        generative_weight=1.0,
        classification_weight=1.0,
        head_layer=None,
        **kwargs,
    ):
        if not isinstance(model, IGPT):
            raise ValueError(
                f"model must be an IGPT, received a {type(model).__name__}."
            )
        check_call(model, "IGPTClassifier")
        (num_classes,) = check_positive_ints(minimum=2, num_classes=num_classes)
        weights = _check_weights(generative_weight, classification_weight)
        head = layers.Dense(
            num_classes,
            use_bias=False,
            kernel_initializer=initializers.Zeros(),
            dtype="float32",
            name="class_head",
        )
        features = _features(model, head_layer)
        if model.takes_prefix:
            features = _of_whole_images(model, features)
        pooled = ops.mean(ops.cast(features, "float32"), axis=1)
        super().__init__(
            inputs=model.input,
            outputs={
                "token_logits": model.output,
                "class_logits": head(pooled),
            },
            **kwargs,
        )
        # `compile` adds loss scaling by it.
        self.dtype_policy = model.dtype_policy
        self.igpt = model
        self.class_head = head
        self.num_classes = num_classes
        self.generative_weight, self.classification_weight = weights
        self.head_layer = head_layer

    def compile(
        self, optimizer="adam", metrics=None, weighted_metrics=None, **kwargs
    ):
        """`keras.Model.compile` with the joint loss.

        `metrics` and `weighted_metrics` are of the class logits; without
        either, accuracy is shown.

        Raises:
            ValueError: for a loss, or weights of losses, of one's own.
        """
        for name in ("loss", "loss_weights"):
            if name in kwargs:
                raise ValueError(
                    f"{name} is the joint objective's own: leave out {name}. "
                    "generative_weight and classification_weight of "
                    "IGPTClassifier weigh its two losses."
                )
        if not metrics and not weighted_metrics:
            metrics = ["accuracy"]
        cross_entropy = keras.losses.SparseCategoricalCrossentropy
        super().compile(
            optimizer=optimizer,
            loss={
                "token_logits": cross_entropy(from_logits=True),
                "class_logits": cross_entropy(from_logits=True),
            },
            loss_weights={
                "token_logits": self.generative_weight,
                "class_logits": self.classification_weight,
            },
            metrics={"class_logits": metrics},
            weighted_metrics={"class_logits": weighted_metrics},
            **kwargs,
        )

    def get_compile_config(self):
        if not self.compiled:
            return None
        # The losses are this class's own.
        given = super().get_compile_config()
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "metrics": given["metrics"]["class_logits"],
            "weighted_metrics": given["weighted_metrics"]["class_logits"],
            "steps_per_execution": given["steps_per_execution"],
        }

    def compile_from_config(self, config):
        # Keras skips this for models that override `compile`.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def call(self, inputs, training=None, mask=None):
        self.igpt.check_values(inputs)
        return super().call(inputs, training=training, mask=mask)

    def check_inputs(self, inputs):
        """Raises a `ValueError` unless `inputs` are what the `IGPT` takes."""
        self.igpt.check_inputs(inputs)

    def check_targets(self, targets):
        """Raises a `ValueError` unless `targets` are labels `(B,)`."""
        check_ids(
            "Labels",
            targets,
            (None,),
            self.num_classes,
            f"One int per image, from 0 to num_classes - 1 = "
            f"{self.num_classes - 1}; of one-hot labels take the argmax.",
        )

    def check_weights(self, sample_weight):
        """Raises a `ValueError` unless weights are of images."""
        shape = tuple(sample_weight.shape)
        if len(shape) != 1:
            raise ValueError(
                "sample_weight must have shape (batch,), a weight for each "
                f"image, received shape {shape}. The loss of a class is no "
                "token's."
            )

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if not outside_replicas():  # where Keras averages the first batch
            self.check_targets(y)
        token_ids = x["token_ids"] if isinstance(x, dict) else x
        weights = self._output_weights(sample_weight)
        token_weight = tokenwise(weights["class_logits"], token_ids)
        predicted = predicted_tokens(self.igpt, x)
        if predicted is not None:
            predicted = self.igpt.token_weights(predicted)
            token_weight = (
                predicted if token_weight is None else token_weight * predicted
            )
        loss = super().compute_loss(
            x=x,
            y=self._targets(x, y),
            y_pred=y_pred,
            sample_weight={**weights, "token_logits": token_weight},
            training=training,
        )
        limits = [(token_ids, self.igpt.vocabulary_size), (y, self.num_classes)]
        if self.igpt.takes_prefix:
            limits.append((x["prefix_length"], self.igpt.sequence_length + 1))
        loss = nan_unless_ids(loss, *limits)
        return balance_replicas(loss, ops.shape(token_ids)[0])

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(
            x, self._targets(x, y), y_pred, self._output_weights(sample_weight)
        )

    def _output_weights(self, sample_weight):
        if sample_weight is not None:
            self.check_weights(sample_weight)
            sample_weight = ops.cast(sample_weight, "float32")
        return dict.fromkeys(("token_logits", "class_logits"), sample_weight)

    def _targets(self, x, labels):
        token_ids = x["token_ids"] if isinstance(x, dict) else x
        return {"token_logits": token_ids, "class_logits": labels}

    def get_config(self):
        if preset_directory.is_quantized(self):
            raise ValueError(
                "A quantized IGPTClassifier has no configuration that builds "
                "it again. Save it before `quantize`."
            )
        frozen = []
        if self.trainable:
            frozen = preset_directory.frozen_names(self._named_variables())
        config = {
            **({"frozen": frozen} if frozen else {}),
            "name": self.name,
            "trainable": self.trainable,
            "model": keras.saving.serialize_keras_object(self.igpt),
            "num_classes": self.num_classes,
            "generative_weight": self.generative_weight,
            "classification_weight": self.classification_weight,
            "head_layer": self.head_layer,
        }
        return final_config(type(self), IGPTClassifier, config)

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config["model"])
        config = {**config, "model": model}
        frozen = config.pop("frozen", [])
        classifier = cls(**config)
        # Here too: `trainable=True` of the whole is also its parts'.
        preset_directory.freeze(classifier._named_variables(), frozen)
        return classifier

    def _named_variables(self):
        head = {f"class_head/{v.name}": v for v in self.class_head.variables}
        return {**preset_directory.named_variables(self.igpt), **head}

    @classmethod
    def from_preset(cls, directory, **overrides):
        """Opens a classifier that `save_to_preset` wrote.

        Args:
            directory: path. `IGPT.from_preset` opens the model in it without
                the class head.
            **overrides: As `IGPT.from_preset` takes for a directory.

        Raises:
            ValueError: if there is no class head, or as `IGPT.from_preset`.
        """
        # A path, so that no named size is meant, which has no class head.
        if (
            isinstance(directory, str)
            and directory in presets.IGPT
            and not user_path(directory).is_dir()
        ):
            raise ValueError(
                f"{directory!r} is a named size, which has no class head. Use "
                f"`IGPTClassifier(IGPT.from_preset({directory!r}), "
                "num_classes)`."
            )
        directory = presets.preset_path(directory)
        model = IGPT.from_preset(directory, **overrides)
        return preset_directory.load_classifier(cls, model, directory)

    def save_to_preset(self, directory, tokenizer=None):
        """Saves model and class head as `IGPT.save_to_preset` does."""
        preset_directory.save(self.igpt, directory, tokenizer, self)


def _features(model, layer):
    """Float `(B, N, D)`, what the feature of a layer is the mean of."""
    if layer is None:
        return model.final_norm.output
    (layer,) = check_positive_ints(minimum=0, head_layer=layer)
    if layer > model.num_layers:
        raise ValueError(
            f"head_layer={layer} is none of 0 to {model.num_layers}, the final "
            "norm."
        )
    if layer == model.num_layers:
        return model.final_norm.output
    block = model.blocks[layer]
    # What else it is told, such as a prefix, comes after its states.
    return block.attention_norm(keras.tree.flatten(block.input)[0])


def _of_whole_images(model, features):
    """Features of a pass of their own, in which each position sees all."""
    token_ids, lengths = (
        model.input[name] for name in ("token_ids", "prefix_length")
    )
    trunk = keras.Model(
        model.input, features, dtype=model.dtype_policy, name="whole_images"
    )
    whole = ops.full_like(lengths, model.sequence_length)
    return trunk({"token_ids": token_ids, "prefix_length": whole})


def _check_weights(generative_weight, classification_weight):
    """Both as floats, of which one is not zero."""
    found = []
    for name, value in (
        ("generative_weight", generative_weight),
        ("classification_weight", classification_weight),
    ):
        try:
            number = float(value)
        except (TypeError, ValueError):
            number = -1.0
        if not 0 <= number < float("inf"):
            raise ValueError(
                f"{name} must be >= 0 and finite, received {value!r}."
            )
        found.append(number)
    if not any(found):
        raise ValueError(
            "generative_weight and classification_weight are both 0: there is "
            "no loss. Raise one of them."
        )
    return found
