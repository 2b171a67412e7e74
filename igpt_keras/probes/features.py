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
        model: an `IGPT`, or an `IGPTClassifier`, whose `IGPT` it is of.
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
        self.model = model = getattr(model, "igpt", model)
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
        if iter(dataset) is dataset:
            raise ValueError(
                "The probe dataset is a generator, which can be read once. "
                "Pass a list of batches or a tf.data.Dataset."
            )
        first = next(iter(dataset), None)
        if first is None:
            raise ValueError("The probe dataset is empty: it has no batch.")
        self._check_batch(first)

    def __call__(self, dataset):
        self.check_dataset(dataset)
        in_graph = keras.backend.backend() == "tensorflow"
        if in_graph and hasattr(dataset, "element_spec"):
            # One call, which tf.distribute spreads over its replicas.
            packed = dataset.map(self._pack)
            parts = [self.feature_model.predict(packed, verbose=0)]
        else:
            parts = []
            for batch in dataset:
                inputs = self._check_batch(batch)
                parts.append(
                    self.feature_model.predict(
                        inputs, batch_size=len(inputs["labels"]), verbose=0
                    )
                )
        features = np.concatenate([part["features"] for part in parts])
        labels = np.concatenate([part["labels"] for part in parts])
        features = np.moveaxis(features, 1, 0)
        return np.ascontiguousarray(features, "float32"), labels

    def _pack(self, token_ids, labels):
        inputs = token_ids
        if not isinstance(inputs, dict):
            inputs = {"token_ids": token_ids}
        if self.takes_mask:
            # As numbers, for Keras's tracing under tf.distribute.
            mask = inputs.get("mask", ops.zeros_like(inputs["token_ids"]))
            inputs = {**inputs, "mask": ops.cast(mask, "int32")}
        return {**inputs, "labels": ops.cast(labels, "int32")}

    def _check_batch(self, batch):
        """The feature model's inputs from one batch, as arrays."""
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise ValueError(
                "A probe dataset yields (token_ids, labels), received a "
                f"{type(batch).__name__}."
            )
        inputs, labels = keras.tree.map_structure(np.asarray, tuple(batch))
        if not isinstance(inputs, dict):
            inputs = {"token_ids": inputs}
        if self.takes_mask and "mask" not in inputs:
            inputs["mask"] = np.zeros(inputs["token_ids"].shape, "bool")
        self.model.check_inputs(
            inputs if self.takes_mask else inputs["token_ids"]
        )
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
