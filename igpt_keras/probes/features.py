import warnings

import keras
import numpy as np
from keras import ops


def extract_features(model, dataset):
    """Features of every layer, averaged over positions, in one pass.

    Layer `l < L` is the post-norm input of attention in block `l`, layer `L`
    the output of the final norm (section 2.4 of the paper, and the blog's
    footnote E: not the raw residual stream). Features come from the training
    forward pass, start token and shift included.

    Args:
        model: an `IGPT`.
        dataset: iterable of batches `(token_ids, labels)`: int `(B, N)` and
            int `(B,)`, such as a finite `tf.data.Dataset` or a list of array
            pairs. For a BERT model `token_ids` may be the dict with a `mask`;
            without one nothing is hidden.

    Returns:
        `(features, labels)`: NumPy float32 `(L + 1, M, D)` and int32 `(M,)`,
        in the dataset's order. One batch is on the device at a time.

    Raises:
        ValueError: if the dataset is empty or infinite, or its batches do not
            fit the model.
    """
    return FeatureExtractor(model)(dataset)


class FeatureExtractor:
    """`extract_features` for one model, built once and called often.

    It must be made where the model's variables live: under a tf.distribute
    strategy, inside its scope.
    """

    def __init__(self, model):
        self.model = model
        self.takes_mask = isinstance(model.input, dict)
        self.feature_model = _FeatureModel(model)

    def check_dataset(self, dataset):
        """Raises a `ValueError` for a dataset that cannot be probed."""
        cardinality = getattr(dataset, "cardinality", None)
        if cardinality is not None and int(cardinality()) == -1:
            raise ValueError(
                "The probe dataset repeats forever. Pass one pass over the "
                "images: `image_dataset(..., training=False)`."
            )
        first = next(iter(dataset), None)
        if first is None:
            raise ValueError("The probe dataset is empty: it has no batch.")
        self._inputs(first)

    def __call__(self, dataset):
        self.check_dataset(dataset)

        def inputs():
            for batch in dataset:
                yield (self._inputs(batch),)

        with warnings.catch_warnings():
            # Keras warns of every generator's end.
            warnings.filterwarnings("ignore", "Your input ran out of data")
            outputs = self.feature_model.predict(inputs(), verbose=0)
        features = np.moveaxis(np.asarray(outputs["features"]), 1, 0)
        return (
            np.ascontiguousarray(features, "float32"),
            np.asarray(outputs["labels"], "int32"),
        )

    def _inputs(self, batch):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                "A probe dataset yields (token_ids, labels), received a "
                f"{type(batch).__name__}."
            )
        token_ids, labels = batch
        inputs = (
            {key: np.asarray(value) for key, value in token_ids.items()}
            if isinstance(token_ids, dict)
            else {"token_ids": np.asarray(token_ids)}
        )
        if self.takes_mask and "mask" not in inputs:
            inputs["mask"] = np.zeros(inputs["token_ids"].shape, "bool")
        self.model.check_inputs(
            inputs if self.takes_mask else inputs["token_ids"]
        )
        labels = np.asarray(labels)
        if labels.shape != inputs["token_ids"].shape[:1]:
            raise ValueError(
                "A probe dataset yields one int label per image: expected "
                f"labels of shape {inputs['token_ids'].shape[:1]}, received "
                f"{labels.shape}. One-hot labels: take their argmax."
            )
        return {**inputs, "labels": labels.astype("int32")}


class _FeatureModel(keras.Model):
    """Pooled features `(B, L + 1, D)` of a batch, and its labels.

    Labels ride along, so that one pass over a shuffled dataset keeps each
    label with its image.
    """

    def __init__(self, model):
        super().__init__(name="features")
        self.states = keras.Model(
            model.input,
            [block.input for block in model.blocks] + [model.final_norm.output],
        )
        self.norms = [block.attention_norm for block in model.blocks]

    def call(self, inputs):
        labels = inputs["labels"]
        if "mask" in inputs:
            inputs = {key: inputs[key] for key in ("token_ids", "mask")}
        else:
            inputs = inputs["token_ids"]
        *states, last = self.states(inputs)
        layers = [norm(x) for norm, x in zip(self.norms, states)] + [last]
        pooled = [ops.mean(ops.cast(x, "float32"), axis=1) for x in layers]
        return {"features": ops.stack(pooled, axis=1), "labels": labels}
