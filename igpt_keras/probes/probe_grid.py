import keras
import numpy as np
from keras import ops

from igpt_keras.backend import balance_replicas
from igpt_keras.probes.check_layers import check_layers
from igpt_keras.probes.features import FeatureModel
from igpt_keras.probes.whole_inputs import input_names
from igpt_keras.probes.whole_inputs import whole_inputs

# Section 3.1 of the paper tries 30, 10, 3, ... on ImageNet.
LEARNING_RATES = (30.0, 10.0, 3.0, 1.0, 0.3)
MOMENTUM = 0.9


class ProbeGrid(keras.Model):
    """Linear probes of several layers and learning rates, trained at once.

    For datasets whose features do not fit into memory (section 3.1): they are
    made batch by batch, in one pass of the network for all probes, and trained
    on by SGD with momentum 0.9 and a cosine decay to zero. Each probe moves as
    if it were trained alone. The network's weights are frozen: its `trainable`
    becomes `False`.

    Train on `x = token_ids` (for BERT the dict with a mask) and `y = labels`,
    int `(B,)` in `[0, C)`. The metric `highest_accuracy` is of the
    best probe there, to watch; `accuracies` has all, and which counts is
    chosen on validation images, as `evaluation.grid_report` does.

    Args:
        model: an `IGPT`, or an `IGPTClassifier`, whose `IGPT` it is of.
        num_classes: int. Number of classes, `C`.
        layers: sequence of int in [0, L], see `extract_features`, `P` of them.
            Defaults to all.
        learning_rates: sequence of float > 0, `R` of them, the peaks. Defaults
            to 30, 10, 3, 1 and 0.3.
        concat: bool. Whether there is one probe of all these layers' features
            joined, in place of one a layer. Defaults to `False`.

    Call arguments:
        inputs: what `model` takes.

    Returns:
        Logits, float32 `(B, R, P, C)`; `P` is 1 with `concat`.

    Raises:
        ValueError: for layers that there are not, and for rates that are none.

    Example:

        grid = ProbeGrid(model, num_classes=1000, layers=[10, 12, 14])
        grid.compile(steps=10_000)
        grid.fit(train, steps_per_epoch=1000, epochs=10)
        grid.evaluate(validation)
        grid.accuracies  # (R, P)
    """

    def __init__(
        self,
        model,
        num_classes,
        layers=None,
        learning_rates=LEARNING_RATES,
        concat=False,
    ):
        super().__init__(name="probe_grid", dtype="float32", autocast=False)
        model = getattr(model, "igpt", model)
        layers = check_layers(model, layers)
        rates = np.array(learning_rates, "float64")
        if rates.ndim != 1 or not rates.size or not (rates > 0).all():
            raise ValueError(
                "learning_rates must be a sequence of numbers > 0, received "
                f"{learning_rates!r}."
            )
        model.trainable = False
        self.names = input_names(model)
        self.feature_model = FeatureModel(model)
        self.num_classes = num_classes
        self.layer_numbers = layers
        self.learning_rates = rates
        # What a probe's gradient is multiplied by.
        self.loss_weights = rates.astype("float32")
        self.concat = concat
        shape = (len(rates), len(layers), model.hidden_dim, num_classes)
        self.kernel = self.add_weight(
            shape=shape, initializer="zeros", name="kernel"
        )
        self.bias = self.add_weight(
            shape=(len(rates), 1 if concat else len(layers), num_classes),
            initializer="zeros",
            name="bias",
        )
        self.grid_accuracy = GridAccuracy(self.bias.shape[:2])

    def compile(self, steps, **kwargs):
        """`keras.Model.compile` for so many steps; see the class."""
        schedule = keras.optimizers.schedules.CosineDecay(1.0, steps)
        super().compile(
            optimizer=self.grid_optimizer(schedule),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            **kwargs,
        )

    def grid_optimizer(self, schedule):
        """The optimizer, whose rates are to be multiplied by `schedule`."""
        # The rates are in the loss: a probe's gradient times its rate.
        return keras.optimizers.SGD(schedule, momentum=MOMENTUM)

    def build(self, input_shape=None):
        self.built = True

    @property
    def accuracies(self):
        """float64 `(R, P)`: of every probe on what was evaluated last."""
        return self.grid_accuracy.accuracies()

    def call(self, inputs):
        features = self.feature_model.features(self._whole(inputs))
        features = ops.stop_gradient(
            ops.take(features, np.array(self.layer_numbers), axis=1)
        )
        if self.concat:
            logits = ops.einsum("bpd,rpdc->brc", features, self.kernel)
            logits = logits[:, :, None]
        else:
            logits = ops.einsum("bpd,rpdc->brpc", features, self.kernel)
        return logits + self.bias

    def check_features(self, token_ids):
        """Raises a `ValueError` if features of whole images are not finite.

        Of a few images: all layers' features of all their tokens are kept.

        Args:
            token_ids: int array `(B, N)`.
        """
        inputs = self._whole(ops.convert_to_tensor(token_ids))
        features = self.feature_model.features(inputs)
        finite = ops.all(ops.isfinite(features), axis=(0, 2))
        for layer in self.layer_numbers:
            if not finite[layer]:
                raise ValueError(
                    f"layer {layer}: features are not finite. Did the model "
                    "diverge?"
                )

    def _whole(self, inputs):
        """What the model takes, of token ids alone too."""
        if self.names and not isinstance(inputs, dict):
            return whole_inputs(self.names, {"token_ids": inputs})
        return inputs

    def compute_loss(
        self, x=None, y=None, y_pred=None, sample_weight=None, training=True
    ):
        _, rates, probes, _ = y_pred.shape
        labels = ops.broadcast_to(
            y[:, None, None], (ops.shape(y)[0], rates, probes)
        )
        # Keras averages over the grid too; this makes it a sum over probes, of
        # the mean over images, times each one's weight.
        weight = self.loss_weights[None, :, None] * rates * probes
        weight = ops.ones_like(labels, "float32") * weight
        loss = super().compute_loss(
            x=x, y=labels, y_pred=y_pred, sample_weight=weight
        )
        return balance_replicas(loss, ops.shape(y)[0])

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        # A layer's metric is in `metrics` already.
        self.grid_accuracy.update_state(y, y_pred)
        return super().compute_metrics(x, y, y_pred, sample_weight)


class GridAccuracy(keras.metrics.Metric):
    """The highest accuracy of a grid of probes; keeps those of all.

    To watch training by. On test images it would be a choice by test.

    Args:
        shape: tuple of int, of the grid, `(R, P)`.
        name: str. Defaults to `"highest_accuracy"`.
    """

    def __init__(self, shape, name="highest_accuracy"):
        super().__init__(name=name, dtype="float32")
        self.right = self.add_variable(shape, "zeros", name="right")
        self.images = self.add_variable((), "zeros", name="images")

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = ops.cast(y_true, "int32")[:, None, None]
        right = ops.argmax(y_pred, axis=-1) == labels
        self.right.assign_add(ops.sum(ops.cast(right, "float32"), axis=0))
        images = ops.cast(ops.shape(y_pred)[0], "float32")
        self.images.assign_add(images)

    def result(self):
        return ops.max(self.right) / ops.maximum(self.images, 1.0)

    def accuracies(self):
        """float64 `(R, P)`."""
        right = ops.convert_to_numpy(self.right).astype("float64")
        return right / float(ops.convert_to_numpy(self.images))
