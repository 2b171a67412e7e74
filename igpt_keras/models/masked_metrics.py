import keras
from keras import ops


class Masked(keras.layers.Layer):
    """Predictions with a Keras mask: metrics count those that it shows.

    Masks, unlike weights, reach the metrics of `compile(metrics=...)` too.
    """

    def __init__(self, mask):
        super().__init__(dtype="float32", name="masked")
        self.supports_masking = True
        self.mask = ops.cast(mask, "bool")

    def call(self, inputs):
        return ops.add(inputs, 0)

    def compute_mask(self, inputs, previous_mask):
        return self.mask


def check_mean_metrics(*metrics):
    """That Keras leaves visible tokens out of each metric."""
    for metric in keras.tree.flatten(metrics):
        if metric in (None, "acc", "accuracy", "ce", "crossentropy"):
            continue
        if isinstance(metric, str):
            metric = keras.metrics.get(metric)
        mean = keras.metrics.MeanMetricWrapper
        if isinstance(metric, keras.metrics.Metric) and not isinstance(
            metric, mean
        ):
            raise ValueError(
                f"{metric.name} cannot leave out the tokens that are not "
                "predicted. Metrics of a BERT model, or one with a prefix, are "
                "functions of (y_true, y_pred) or Keras metrics that average "
                "one, such as 'accuracy'."
            )
