import importlib.util
import pathlib
import sys
import tempfile
import time

import keras
import numpy as np
from sklearn.model_selection import train_test_split

from igpt_keras.backend import model_scope
from igpt_keras.backend import optimizer_step
from igpt_keras.probes.features import FeatureExtractor
from igpt_keras.probes.logistic_regression import check_classes
from igpt_keras.probes.logistic_regression import fit_logistic_regression

# Of L-BFGS, looser than a final probe's: a curve while training can bear an
# error of a few tenths of a percent, and waits less.
_TOLERANCE = 1e-3


class LinearProbe(keras.callbacks.Callback):
    """Probes every layer while a model trains.

    Put it before `TensorBoard`, `ModelCheckpoint` and `EarlyStopping` in the
    list of callbacks: it adds two keys to the epoch's `logs`, and only later
    callbacks see them.

    - `val_probe_{name}_accuracy`: accuracy on `test` of the best layer, as a
      fraction. The layer, like the regularisation, is chosen on images held
      out of `train`.
    - `val_probe_{name}_layer`: that layer, 0 to L.

    With `log_dir` it writes for TensorBoard, in the group
    `accuracy_probe_{name}`, which stands first on the page: `best`,
    `best_layer` and `layer_00`, ... against optimizer steps, all layers in
    one chart under Custom Scalars; and `by_depth`, accuracy against the
    layer, a line for each probe.

    Weights, optimizer and random state are left as they were: a run with the
    probe has the losses of a run without it. Works under a tf.distribute
    strategy. Use one callback for each dataset.

    Args:
        train: iterable of `(token_ids, labels)` batches that the probe is
            fitted on, see `extract_features`.
        test: as `train`, other images: what the curve reports. While anything
            is decided by the curve, pass validation images.
        name: str. The dataset's name in logs. Defaults to `"probe"`.
        log_dir: directory for TensorBoard; needs TensorFlow. Defaults to
            `None`, no files.
        every: int. Probe after every so many epochs, and at the end of
            training. Defaults to 1.
        layers: optional sequence of int: layers to probe. Defaults to all.
        regularization: float. scikit-learn's `C`, or a sequence to choose
            from. Defaults to 1.0; a final probe chooses among more.
        verbose: 0 or 1. Whether to show progress. Defaults to 1.

    Attributes:
        history: list of dicts, one a probe: `step` (optimizer steps), `epoch`
            (finished epochs), `layers`, `accuracy` (on test, a layer each),
            `best_layer`, `seconds`.

    Raises:
        ValueError: if `log_dir` cannot be written, and when training begins
            if a dataset does not fit the model or has too few classes.

    Example:

        probe = igpt_keras.LinearProbe(
            train, validation, name="cifar10", log_dir="logs"
        )
        best = keras.callbacks.ModelCheckpoint(
            "best.weights.h5", monitor="val_probe_cifar10_accuracy",
            mode="max", save_best_only=True, save_weights_only=True,
        )
        model.fit(token_ids, token_ids, callbacks=[probe, best])
    """

    def __init__(
        self,
        train,
        test,
        name="probe",
        log_dir=None,
        every=1,
        layers=None,
        regularization=1.0,
        verbose=1,
    ):
        super().__init__()
        if every < 1:
            raise ValueError(f"every must be >= 1 epochs, received {every}.")
        self.train = train
        self.test = test
        self.name = name
        self.log_dir = None if log_dir is None else _check_writable(log_dir)
        self.every = every
        self.layers = layers
        self.regularization = tuple(np.atleast_1d(regularization).tolist())
        self.verbose = verbose
        self.history = []

    def on_train_begin(self, logs=None):
        self.history = []
        self._writer = None
        self._epoch = 0
        num_layers = len(self.model.blocks) + 1
        self._layers = list(range(num_layers))
        if self.layers is not None:
            self._layers = sorted(set(self.layers))
            if not self._layers or not (
                0 <= self._layers[0] <= self._layers[-1] < num_layers
            ):
                raise ValueError(
                    f"layers must be in 0 to {num_layers - 1}, received "
                    f"{self.layers}."
                )
        # A model made here would otherwise fall outside the strategy whose
        # variables it reads.
        with model_scope(self.model):
            self._extract = FeatureExtractor(self.model)
        # All that can be wrong with the data is said before training.
        for dataset in (self.train, self.test):
            self._extract.check_dataset(dataset)
        labels = [np.asarray(labels) for _, labels in self.train]
        _hold_out(np.concatenate(labels))

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        last = self._epoch == self.params.get("epochs")
        if self._epoch % self.every and not last:
            return
        record = self._probe()
        if logs is not None:
            best = record["layers"].index(record["best_layer"])
            logs[f"val_probe_{self.name}_accuracy"] = record["accuracy"][best]
            logs[f"val_probe_{self.name}_layer"] = record["best_layer"]

    def on_train_end(self, logs=None):
        # Training that stopped early ends on an epoch that was not probed.
        probed = self.history[-1]["epoch"] if self.history else 0
        if self._epoch != probed:
            self._probe()
        if self._writer is not None:
            self._writer.close()

    def _probe(self):
        start = time.perf_counter()
        step = optimizer_step(self.model)
        self._say(f"Probing {self.name} after step {step}:")
        train, labels = self._extract(self.train)
        test, test_labels = self._extract(self.test)
        fit, held_out = _hold_out(labels)
        result = fit_logistic_regression(
            train[self._layers][:, fit],
            labels[fit],
            train[self._layers][:, held_out],
            labels[held_out],
            test[self._layers],
            test_labels,
            regularization=self.regularization,
            tolerance=_TOLERANCE,
            verbose=self.verbose,
        )
        record = {
            "step": step,
            "epoch": self._epoch,
            "layers": self._layers,
            "accuracy": result.test_accuracy.tolist(),
            "best_layer": self._layers[result.best_layer],
            "seconds": time.perf_counter() - start,
        }
        self.history.append(record)
        accuracy = result.test_accuracy[result.best_layer]
        self._say(
            f"{self.name}: {accuracy:.1%} at layer {record['best_layer']} of "
            f"{len(self.model.blocks)}, probed in {record['seconds']:.1f} s"
        )
        if self.log_dir is not None:
            self._write(record)
        return record

    def _write(self, record):
        import tensorflow as tf

        run = self.log_dir / f"probe_{self.name}"
        # TensorBoard opens its first groups only, in alphabetical order: with
        # this name the probe curves come before Keras's epoch_loss.
        group = f"accuracy_probe_{self.name}"
        layers = list(zip(record["layers"], record["accuracy"]))
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(run))
            with self._writer.as_default(step=0):
                tf.summary.experimental.write_raw_pb(_custom_chart(group))
        with self._writer.as_default(step=record["step"]):
            for layer, accuracy in layers:
                tf.summary.scalar(f"{group}/layer_{layer:02d}", accuracy)
            best = dict(layers)[record["best_layer"]]
            tf.summary.scalar(f"{group}/best", best)
            tf.summary.scalar(f"{group}/best_layer", record["best_layer"])
        self._writer.flush()
        depth = tf.summary.create_file_writer(
            str(run / f"after_step_{record['step']:08d}")
        )
        with depth.as_default():
            for layer, accuracy in layers:
                tf.summary.scalar(f"{group}/by_depth", accuracy, step=layer)
        depth.close()

    def _say(self, message):
        if self.verbose:
            sys.stdout.write(message + "\n")
            sys.stdout.flush()


def _hold_out(labels):
    """Indices to fit on and a tenth of each class to choose on."""
    check_classes(labels)
    classes, counts = np.unique(labels, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"Class {classes[counts.argmin()]} has one image in the probe's "
            "train set. It needs two or more: one to fit on, one to choose "
            "the layer on."
        )
    indices = np.arange(len(labels))
    held_out = max(len(classes), round(0.1 * len(labels)))
    fit, held_out = train_test_split(
        indices, test_size=held_out, stratify=labels, random_state=0
    )
    return np.sort(fit), np.sort(held_out)


def _check_writable(log_dir):
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            "log_dir needs TensorFlow to write for TensorBoard. Install it "
            "with `pip install tensorflow`, or leave log_dir out: results are "
            "in `history` and in the epoch's logs."
        )
    log_dir = pathlib.Path(log_dir)
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=log_dir):
            pass
    except OSError as error:
        raise ValueError(
            f"log_dir {str(log_dir)!r} cannot be written: {error}. Choose a "
            "directory you may write to."
        ) from error
    return log_dir


def _custom_chart(group):
    """All layers in one chart, for TensorBoard's Custom Scalars."""
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.custom_scalar import summary

    chart = layout_pb2.Chart(
        title="accuracy of each layer",
        multiline=layout_pb2.MultilineChartContent(tag=[rf"{group}/layer_\d+"]),
    )
    category = layout_pb2.Category(title=group, chart=[chart])
    layout = layout_pb2.Layout(category=[category])
    return summary.pb(layout).SerializeToString()
