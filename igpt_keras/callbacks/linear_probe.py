import copy
import operator
import sys
import time

import keras
import numpy as np

from igpt_keras.backend import model_scope
from igpt_keras.backend import optimizer_step
from igpt_keras.callbacks.bar_line import end_bar_line
from igpt_keras.callbacks.probe_log import ProbeLog
from igpt_keras.callbacks.probe_record import chosen_accuracy
from igpt_keras.callbacks.probe_record import describe_record
from igpt_keras.probes.chosen_layers import standard_error
from igpt_keras.probes.features import feature_extractor
from igpt_keras.probes.hold_out import hold_out
from igpt_keras.probes.hold_out import why_no_probe
from igpt_keras.probes.labels import largest_class_share
from igpt_keras.probes.logistic_regression import REGULARIZATION
from igpt_keras.probes.logistic_regression import check_regularization
from igpt_keras.probes.nearest_neighbors import check_neighbors
from igpt_keras.probes.probe_layers import probe_layers
from igpt_keras.probes.probe_neighbors import probe_neighbors
from igpt_keras.storage.user_path import user_path


class LinearProbe(keras.callbacks.Callback):
    """Probes every layer while a model trains.

    Layer and regularisation are chosen as `probe_layers` does, on a third of
    `train`, so that `probe_layers` on the same images and weights gives the
    same numbers.

    Put it before `TensorBoard`, `CSVLogger`, `ModelCheckpoint` and
    `EarlyStopping` in the list of callbacks: it adds two keys to the `logs` of
    every epoch, and only later callbacks see them.

    - `val_probe_{name}_accuracy`: accuracy on `test` of the chosen layer, as a
      fraction. Not the highest of all layers: that would be a choice on `test`.
    - `val_probe_{name}_layer`: the chosen layer, 0 to L.

    Epochs without a probe repeat the last one's; before the first they are
    `-inf`, which any accuracy improves on, and -1. Patience of other callbacks
    counts epochs, not probes. Keras's `TensorBoard` shows both under its run
    `train`, as `epoch_val_probe_...`; `CurveLog` leaves them to `log_dir`.

    With `log_dir` it writes for TensorBoard, in the group
    `accuracy_probe_{name}`, which stands first on the page, against optimizer
    steps: `layers`, a line a layer and one for chance, each a run of its own,
    also under Custom Scalars; `chosen`, `chosen_layer` and `standard_error`,
    and of nearest neighbours `neighbors`, of their own chosen layer;
    and accuracy against the layer, a line for each probe: `by_depth`, to point
    at (its x axis is the layer), and `curve`, a picture of it.

    Weights, optimizer and random state are left as they were: a run with the
    probe has the losses of a run without it. Works under a tf.distribute
    strategy, on an `IGPTClassifier`, and on any model that `extract_features`
    takes. Use one callback for each dataset.

    Args:
        train: iterable of `(token_ids, labels)` batches that the probe is
            fitted on, see `extract_features`. For BERT `mask_tokens(dataset,
            labels=True)` hides tokens as in training; the same ones each time.
        test: as `train`, other images: what the curve reports. While anything
            is decided by the curve, pass validation images.
        name: str. The dataset's name in logs. Defaults to `"probe"`.
        log_dir: directory for TensorBoard; needs TensorFlow. Defaults to
            `None`, no files.
        every: int. Probe after every so many epochs, and at the end of
            training. Defaults to 1.
        layers: optional int or sequence of int: layers to probe. Defaults to
            all.
        regularization: float, or sequence to choose from. scikit-learn's `C`.
            Defaults to 0.001 to 10 by factors of ten, as for `probe_layers`; a
            single one takes a third of the time.
        neighbors: optional int, or sequence to choose from: nearest neighbours
            whose vote is scored too, see `probe_neighbors`, on the same
            features; 20 is usual. It takes little time. Defaults to none.
        verbose: 0 or 1. Whether to show progress. Defaults to 1.

    Attributes:
        seconds: float. Spent on probes since training began, also on one that
            was interrupted.
        fit_history: the part of `history` that the fit which runs, or ran
            last, has added; what `logs` and TensorBoard show is of it.
        history: list of dicts, one a probe, of all fits in turn: it grows on
            in a second `fit`. Of each
            `name`; `step` (optimizer steps), `epoch` (finished epochs),
            `seconds`; `layers`, and for each `accuracy` (on test),
            `held_out_accuracy` (what layer and C were chosen by) and
            `regularization` (that C);
            `chosen_layer`, also as `best_layer`, and `tied_layers`: those
            within a standard error of its held-out accuracy, itself included;
            `standard_error` (binomial, of the chosen layer's accuracy);
            `test_images`, `held_out_images`, `train_images` (with those held
            out); `chance` (the share of test's largest class). With
            `neighbors` also `neighbors_accuracy` and
            `neighbors_held_out_accuracy` of each layer, `neighbors` (the
            number chosen for each) and `neighbors_chosen_layer`.

    Raises:
        ImportError: if `log_dir` is given and TensorFlow is not installed.
        ValueError: if an argument is not of that kind or `log_dir` cannot be
            written; and when training begins, if a dataset does not fit the
            model or `igpt_keras.probes.why_no_probe` has a reason. Ask that
            first where training should go on without a probe.

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
        regularization=REGULARIZATION,
        neighbors=None,
        verbose=1,
    ):
        super().__init__()
        self.train = train
        self.test = test
        self.name = name
        self.log_dir = None if log_dir is None else user_path(log_dir)
        self._log = None if log_dir is None else ProbeLog(name, self.log_dir)
        self.every = _check_int("every", every, "epochs", least=1)
        self.layers = layers
        if layers is not None:
            self.layers = [
                _check_int("layers", layer, "a layer, or a sequence of them")
                for layer in np.atleast_1d(np.asarray(layers, "object"))
            ]
            if not self.layers:
                raise ValueError(
                    "layers is empty: nothing to probe. Leave it out to probe "
                    "all layers."
                )
        self.regularization = check_regularization(regularization)
        self.neighbors = neighbors
        if neighbors is not None:
            check_neighbors(neighbors)
        self.verbose = verbose
        self.history = []
        self.seconds = 0.0
        self._before = 0
        self._extract = None

    def __deepcopy__(self, memo):
        # Datasets are shared, since tf.data's cannot be copied; what belongs
        # to one fit stays with it.
        copied = copy.copy(self)
        copied.history = copy.deepcopy(self.history, memo)
        copied._model, copied._extract = None, None
        if self._log is not None:
            copied._log = ProbeLog(self.name, self.log_dir)
        return copied

    @property
    def fit_history(self):
        return self.history[self._before :]

    def on_train_begin(self, logs=None):
        self._before = len(self.history)
        self.seconds = 0.0
        self._epoch = 0
        # A model made here would otherwise fall outside the strategy whose
        # variables it reads.
        with model_scope(self.model):
            self._extract = feature_extractor(self.model)
        num_layers = self._extract.num_layers
        self._layers = sorted(set(self.layers or range(num_layers)))
        if not 0 <= self._layers[0] <= self._layers[-1] < num_layers:
            raise ValueError(
                f"layers must be in 0 to {num_layers - 1}, received "
                f"{self.layers}."
            )
        # All that can be wrong with the data is said before training.
        labels = self._extract.read_labels(self.train)
        reason = why_no_probe(labels, self._extract.read_labels(self.test))
        if reason:
            raise ValueError(reason)
        if self.neighbors is not None:
            voters, _ = hold_out(labels)
            check_neighbors(self.neighbors, len(voters))

    def on_epoch_end(self, epoch, logs=None):
        self._epoch = epoch + 1
        last = self._epoch == self.params.get("epochs")
        if self._epoch % self.every == 0 or last:
            if self.verbose:
                end_bar_line(self, epoch)
            self._probe()
        if logs is None:
            return
        accuracy, layer = float("-inf"), -1
        if self.fit_history:
            accuracy = chosen_accuracy(self.fit_history[-1])
            layer = self.fit_history[-1]["chosen_layer"]
        logs[_LogKey(f"val_probe_{self.name}_accuracy")] = accuracy
        logs[_LogKey(f"val_probe_{self.name}_layer")] = layer

    def on_train_end(self, logs=None):
        # Training that stopped early ends on an epoch that was not probed.
        probed = self.fit_history[-1]["epoch"] if self.fit_history else 0
        if self._epoch != probed:
            self._probe()
        if self._log is not None:
            self._log.close()

    def _probe(self):
        start = time.perf_counter()
        try:
            record = self._measure()
        finally:
            seconds = time.perf_counter() - start
            self.seconds += seconds
        record["seconds"] = seconds
        self.history.append(record)
        self._say(describe_record(record, self._extract.num_layers - 1))
        if self._log is not None:
            self._log.write(self.fit_history)

    def _measure(self):
        """What `history` says of a probe, but for its seconds."""
        step = optimizer_step(self.model)
        self._say(f"Probing {self.name} after step {step}:")
        train, train_labels = self._extract(self.train)
        test, test_labels = self._extract(self.test)
        result = probe_layers(
            train[self._layers],
            train_labels,
            test[self._layers],
            test_labels,
            regularization=self.regularization,
            verbose=self.verbose,
        )
        chosen = result.chosen_layer
        record = {
            "name": self.name,
            "step": step,
            "epoch": self._epoch,
            "layers": self._layers,
            "accuracy": result.test_accuracy.tolist(),
            "held_out_accuracy": result.validation_accuracy.tolist(),
            "regularization": result.regularization.tolist(),
            "best_layer": self._layers[chosen],
            "chosen_layer": self._layers[chosen],
            "tied_layers": [self._layers[i] for i in result.tied_layers],
            "standard_error": standard_error(
                result.test_accuracy[chosen], len(test_labels)
            ),
            "train_images": len(train_labels),
            "held_out_images": result.num_validation_images,
            "test_images": len(test_labels),
            "chance": largest_class_share(test_labels),
        }
        if self.neighbors is not None:
            sets = (train, train_labels, test, test_labels)
            record |= self._neighbors_record(*sets)
        return record

    def _neighbors_record(self, train, train_labels, test, test_labels):
        near = probe_neighbors(
            train[self._layers],
            train_labels,
            test[self._layers],
            test_labels,
            self.neighbors,
            verbose=self.verbose,
        )
        return {
            "neighbors_accuracy": near.test_accuracy.tolist(),
            "neighbors_held_out_accuracy": near.validation_accuracy.tolist(),
            "neighbors": near.neighbors.tolist(),
            "neighbors_chosen_layer": self._layers[near.chosen_layer],
        }

    def _say(self, message):
        if self.verbose:
            sys.stdout.write(message + "\n")
            sys.stdout.flush()


class _LogKey(str):
    """A key of `logs` that Keras does not take for one of validation.

    With any key there that starts with `val_`, `CSVLogger` believes that
    validation ran in the first epoch, and leaves `val_loss` out for good if it
    runs later only. Otherwise equal to the text, also in dicts.
    """

    __slots__ = ()

    def startswith(self, prefix, *place):
        return prefix != "val_" and super().startswith(prefix, *place)

    def __reduce__(self):
        return str, (str(self),)


def _check_int(name, value, meaning, least=None):
    """`value` as an int; booleans are none."""
    try:
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(
            f"{name} must be an int, {meaning}, received {value!r}."
        ) from None
    if least is not None and number < least:
        raise ValueError(
            f"{name} must be >= {least} {meaning}, received {value}."
        )
    return number
