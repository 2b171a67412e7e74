import pathlib

import keras
from keras import initializers
from keras import layers
from keras import ops

from igpt_keras.models import preset_directory
from igpt_keras.models.igpt import IGPT
from igpt_keras.models.igpt import check_float16


@keras.saving.register_keras_serializable(package="igpt_keras")
class IGPTClassifier(keras.Model):
    """Image GPT with a class head, for fine-tuning (section 2.3).

    The class logits are a linear map, without bias and starting at zero, of the
    final norm's output averaged over positions. The loss is the paper's joint
    objective, `generative loss + classification loss`; both are means, and the
    generative one is over all tokens of the sequence.

    Train on `x = token_ids` (for BERT the dict with a mask) and `y = labels`.

    Args:
        model: an `IGPT`; its weights are shared and trained on.
        num_classes: int. Number of classes, `C`.
        generative_weight: float >= 0. Weight of the generative loss. Defaults
            to 1, the paper's; 0 fine-tunes on classes alone.
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

    def __init__(self, model, num_classes, generative_weight=1.0, **kwargs):
        if not isinstance(model, IGPT):
            raise ValueError(
                f"model must be an IGPT, received a {type(model).__name__}."
            )
        if not isinstance(num_classes, int) or num_classes < 2:
            raise ValueError(
                f"num_classes must be an int >= 2, received {num_classes!r}."
            )
        if generative_weight < 0:
            raise ValueError(
                f"generative_weight must be >= 0, received {generative_weight}."
            )
        head = layers.Dense(
            num_classes,
            use_bias=False,
            kernel_initializer=initializers.Zeros(),
            dtype="float32",
            name="class_head",
        )
        pooled = ops.mean(ops.cast(model.final_norm.output, "float32"), axis=1)
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
        self.generative_weight = generative_weight

    def compile(self, optimizer="adam", metrics=None, **kwargs):
        """`keras.Model.compile` with the joint loss.

        `metrics` are of the class logits and default to accuracy.
        """
        check_float16(self)
        cross_entropy = keras.losses.SparseCategoricalCrossentropy
        super().compile(
            optimizer=optimizer,
            loss={
                "token_logits": cross_entropy(from_logits=True),
                "class_logits": cross_entropy(from_logits=True),
            },
            loss_weights={
                "token_logits": self.generative_weight,
                "class_logits": 1.0,
            },
            metrics={"class_logits": metrics or ["accuracy"]},
            **kwargs,
        )

    def get_compile_config(self):
        # Loss and metrics are this class's own.
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer)
        }

    def compile_from_config(self, config):
        # Keras skips this for models that override `compile`.
        self.compile(**keras.saving.deserialize_keras_object(config))
        self.optimizer.build(self.trainable_variables)

    def call(self, inputs, training=None, mask=None):
        self.igpt.check_values(inputs)
        return super().call(inputs, training=training, mask=mask)

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        if sample_weight is not None:
            raise ValueError(
                "IGPTClassifier takes no sample_weight: the joint loss does "
                "not define one."
            )
        token_weight = None
        if self.igpt.objective == "bert":
            token_weight = self.igpt.token_weights(x["mask"])
        if token_weight is not None:
            sample_weight = {"token_logits": token_weight, "class_logits": None}
        return super().compute_loss(
            x=x,
            y=self._targets(x, y),
            y_pred=y_pred,
            sample_weight=sample_weight,
            training=training,
        )

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        return super().compute_metrics(
            x, self._targets(x, y), y_pred, sample_weight
        )

    def _targets(self, x, labels):
        token_ids = x["token_ids"] if isinstance(x, dict) else x
        return {"token_logits": token_ids, "class_logits": labels}

    def get_config(self):
        return {
            "name": self.name,
            "trainable": self.trainable,
            "model": keras.saving.serialize_keras_object(self.igpt),
            "num_classes": self.num_classes,
            "generative_weight": self.generative_weight,
        }

    @classmethod
    def from_config(cls, config):
        model = keras.saving.deserialize_keras_object(config.pop("model"))
        return cls(model, **config)

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
        directory = pathlib.Path(directory)
        model = IGPT.from_preset(directory, **overrides)
        return preset_directory.load_classifier(cls, model, directory)

    def save_to_preset(self, directory, tokenizer=None):
        """Saves model and class head as `IGPT.save_to_preset` does."""
        preset_directory.save(self.igpt, directory, tokenizer, self)
