import pathlib

import keras
import numpy as np
from keras import ops

from igpt_keras.backend import current_strategy
from igpt_keras.backend import predict_batch
from igpt_keras.probes.check_parts import check_parts
from igpt_keras.probes.labels import check_labels
from igpt_keras.probes.whole_inputs import input_names
from igpt_keras.probes.whole_inputs import whole_inputs


def extract_features(model, dataset, path=None):
    """Features of every layer, averaged over positions, in one pass.

    Layer `l < L` is the post-norm input of attention in block `l`, layer `L`
    the output of the final norm (section 2.4 of the paper, and the blog's
    footnote E: not the raw residual stream). Features come from the training
    forward pass, start token and shift included. Of a model of
    `attention="prefix_causal"` the prefix is the whole image: it was trained to
    do without the causal mask, and is read without it (AIM, section 3.2).

    The network that computes them is kept with the model, so that a second call
    does not trace it again.

    Args:
        model: an `IGPT`, or an `IGPTClassifier`, whose `IGPT` it is of; or any
            functional Keras model that takes token ids `(B, N)` and has as
            attributes `blocks`, a sequence of layers that are called once
            each and whose `attention_norm` normalizes the input of the block,
            `final_norm`, a layer of the model, and `hidden_dim`, an int.
        dataset: iterable of batches `(token_ids, labels)`: int `(B, N)` and
            whole numbers `(B,)`, such as a finite `tf.data.Dataset` or a list
            of array pairs. For a BERT model `token_ids` may be the dict with a
            `mask`, as `mask_tokens(dataset, labels=True)` makes (section 4.6);
            without one nothing is hidden. So it may be one with a
            `prefix_length`; 0 gives features under a causal mask. Empty
            batches are passed over.
        path: path of a `.npy` file to write the features to, where they are
            more than memory holds; an existing one is replaced. Defaults to
            none.

    Returns:
        `(features, labels)`: NumPy float32 `(L + 1, M, D)`, with a `path` the
        mapped file, and int32 `(M,)`, in the dataset's order. One batch is on
        the device at a time.

    Raises:
        ValueError: if the model lacks one of these parts, the dataset is empty
            or infinite, its batches do not fit the model, or labels are not
            whole numbers.
    """
    extractor = feature_extractor(model)
    if path is None:
        return extractor(dataset)
    return extractor.write(dataset, path)


def stream_features(model, dataset):
    """`extract_features` batch by batch, where all of them are not needed.

    Args:
        model: as `extract_features` takes it.
        dataset: as `extract_features` takes it.

    Yields:
        `(features, labels)` of each batch: NumPy float32 `(L + 1, B, D)` and
        int32 `(B,)`.

    Raises:
        ValueError: as `extract_features`.
    """
    yield from feature_extractor(model).stream(dataset)


def feature_extractor(model):
    """The `FeatureExtractor` of a model, made once for each strategy.

    Kept with the model, past Keras, which would take it for a part of it. One
    that was made before LoRA or quantizing has other variables and is of no
    use; one made in the scope of a strategy cannot be called in another's.
    """
    model = getattr(model, "igpt", model)
    check_parts(model)
    parts = (*model.variables, *model.blocks, model.final_norm)
    probed = tuple(map(id, parts))
    if model.__dict__.get("_probed_parts") != probed:
        model.__dict__["_probed_parts"] = probed
        model.__dict__["_feature_extractors"] = {}
    extractors = model.__dict__["_feature_extractors"]
    strategy = current_strategy()
    if strategy not in extractors:
        extractors[strategy] = FeatureExtractor(model)
    return extractors[strategy]


class FeatureExtractor:
    """`extract_features` for one model, built once and called often.

    Made inside the scope of the model's tf.distribute strategy, it computes
    on all replicas; elsewhere the same features on one.
    """

    def __init__(self, model):
        self.model = model = getattr(model, "igpt", model)
        self.names = input_names(model)
        self.feature_model = FeatureModel(model)

    @property
    def num_layers(self):
        """Layers with features, `L + 1`."""
        return len(self.model.blocks) + 1

    def read_labels(self, dataset):
        """Checks every batch of a dataset; returns its int32 labels `(M,)`."""
        return np.concatenate(
            [inputs["labels"] for inputs in self._batches(dataset)]
        )

    def __call__(self, dataset):
        batches = self._batches(dataset)
        in_graph = keras.backend.backend() == "tensorflow"
        if in_graph and hasattr(dataset, "element_spec"):
            next(batches)
            # One call, which tf.distribute spreads over its replicas.
            packed = dataset.map(self._pack)
            parts = [self.feature_model.predict(packed, verbose=0)]
        else:
            parts = [
                predict_batch(self.feature_model, inputs) for inputs in batches
            ]
        features = np.concatenate([part["features"] for part in parts])
        labels = np.concatenate([part["labels"] for part in parts])
        features = np.moveaxis(features, 1, 0)
        return np.ascontiguousarray(features, "float32"), check_labels(labels)

    def write(self, dataset, path):
        """`extract_features` into a file, a batch at a time."""
        labels = self.read_labels(dataset)
        width = self.model.hidden_dim
        # Who has an earlier file mapped keeps it.
        pathlib.Path(path).unlink(missing_ok=True)
        features = np.lib.format.open_memmap(
            path, "w+", "float32", (self.num_layers, len(labels), width)
        )
        start = 0
        for part, _ in self.stream(dataset):
            stop = start + part.shape[1]
            features[:, start:stop] = part
            start = stop
        features.flush()
        return features, check_labels(labels)

    def stream(self, dataset):
        """`stream_features`, a batch at a time."""
        for inputs in self._batches(dataset):
            part = self.feature_model.predict_on_batch(inputs)["features"]
            yield np.moveaxis(part, 1, 0), inputs["labels"]

    def _pack(self, token_ids, labels):
        inputs = token_ids
        if not isinstance(inputs, dict):
            inputs = {"token_ids": token_ids}
        inputs = whole_inputs(self.names, inputs)
        if "mask" in inputs:
            # As numbers, for Keras's tracing under tf.distribute.
            inputs["mask"] = ops.cast(inputs["mask"], "int32")
        if keras.backend.standardize_dtype(labels.dtype) == "bool":
            labels = ops.cast(labels, "int32")
        # Other labels as they are: a cast would cut fractions off.
        return {**inputs, "labels": labels}

    def _batches(self, dataset):
        """The feature model's inputs from each batch, checked, as arrays."""
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
        found = False
        for batch in dataset:
            inputs, labels = _split(batch)
            if len(inputs["token_ids"]) == len(labels) == 0:
                continue
            found = True
            yield self._check_batch(inputs, labels)
        if not found:
            raise ValueError("The probe dataset is empty: it has no image.")

    def _check_batch(self, inputs, labels):
        inputs = whole_inputs(self.names, inputs)
        inputs = {k: ops.convert_to_numpy(x) for k, x in inputs.items()}
        check_inputs = getattr(self.model, "check_inputs", self._check_inputs)
        check_inputs(inputs if len(inputs) > 1 else inputs["token_ids"])
        labels = check_labels(labels)
        if len(labels) != len(inputs["token_ids"]):
            raise ValueError(
                "A probe dataset yields one int label per image, received "
                f"{len(inputs['token_ids'])} images and {len(labels)} labels "
                "in a batch."
            )
        return {**inputs, "labels": labels}

    def _check_inputs(self, inputs):
        """For models that do not check their inputs themselves."""
        expected = self.model.input
        if isinstance(inputs, dict) != isinstance(expected, dict):
            raise ValueError(
                f"{self.model.name} takes {expected!r}, received "
                f"{'a dict' if isinstance(inputs, dict) else 'token ids'}."
            )
        inputs = inputs["token_ids"] if isinstance(inputs, dict) else inputs
        if isinstance(expected, dict):
            expected = expected["token_ids"]
        length = expected.shape[1]
        if inputs.ndim != 2 or length not in (None, inputs.shape[1]):
            raise ValueError(
                f"token_ids must have shape (batch, {length or 'N'}), received "
                f"{inputs.shape}. Tokenize images first."
            )
        if not np.issubdtype(inputs.dtype, np.integer):
            raise ValueError(
                f"token_ids must be integers, received {inputs.dtype}."
            )


def _split(batch):
    """The inputs of a batch as a dict of arrays, and its labels."""
    if not isinstance(batch, (tuple, list)) or len(batch) != 2:
        kind = type(batch).__name__
        if isinstance(batch, (tuple, list)):
            kind = f"{kind} of {len(batch)}"
        raise ValueError(
            f"A probe dataset yields (token_ids, labels), received a {kind}. "
            "Put a single batch in a list: [(token_ids, labels)]."
        )
    inputs, labels = batch
    if not isinstance(inputs, dict):
        inputs = {"token_ids": inputs}
    if "token_ids" not in inputs:
        raise ValueError(
            "The inputs of a probe dataset are token ids, or a dict of "
            f"`token_ids` and `mask`, received a dict of {sorted(inputs)}."
        )
    inputs = {key: np.asarray(value) for key, value in inputs.items()}
    return inputs, np.asarray(labels)


def block_input(block):
    """The symbolic states that go into a block, whatever else it is told."""
    return keras.tree.flatten(block.input)[0]


class FeatureModel(keras.Model):
    """Pooled features `(B, L + 1, D)` of a batch, and its labels.

    Labels ride along, so that one pass over a shuffled dataset keeps each
    label with its image.
    """

    def __init__(self, model):
        # Whatever the global policy: labels may be floats, to be kept.
        super().__init__(name="features", dtype="float32", autocast=False)
        self.states = keras.Model(
            model.input,
            [block_input(block) for block in model.blocks]
            + [model.final_norm.output],
            dtype=model.final_norm.dtype_policy,
        )
        self.norms = [block.attention_norm for block in model.blocks]

    def call(self, inputs):
        inputs = dict(inputs)
        labels = inputs.pop("labels")
        if len(inputs) == 1:
            inputs = inputs["token_ids"]
        return {"features": self.features(inputs), "labels": labels}

    def features(self, inputs):
        """Float32 `(B, L + 1, D)` of what the model takes."""
        pooled = [ops.mean(x, axis=1) for x in self.token_features(inputs)]
        return ops.stack(pooled, axis=1)

    def token_features(self, inputs):
        """Those of each position: a list of float32 `(B, N, D)` a layer."""
        # Also where a probe that is trained asks.
        *states, last = self.states(inputs, training=False)
        layers = [norm(x) for norm, x in zip(self.norms, states)] + [last]
        return [ops.cast(x, "float32") for x in layers]
