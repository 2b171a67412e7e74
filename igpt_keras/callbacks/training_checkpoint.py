import contextlib
import math
import sys
import warnings
from concurrent import futures

import keras
import numpy as np

from igpt_keras.backend import has_workers
from igpt_keras.backend import optimizer_step
from igpt_keras.callbacks.training_state import assign_state
from igpt_keras.callbacks.training_state import training_state
from igpt_keras.storage.checkpoint_directory import DamagedCheckpoint
from igpt_keras.storage.checkpoint_directory import read_arrays
from igpt_keras.storage.kept_checkpoints import KeptCheckpoints
from igpt_keras.storage.user_path import user_path
from igpt_keras.version import software_versions


class TrainingCheckpoint(keras.callbacks.Callback):
    """Saves a run after each epoch so that it continues bit for bit.

    A checkpoint holds all variables of the model, its optimizer and its
    metrics, and the place in the run. With batches that are a function of the
    step (`image_dataset(..., start_step=...)`) a run that was stopped and
    resumed ends with the weights of one that was not; no stock Keras callback
    does that. It is a directory, written under another name and renamed when it
    is whole, with a hash of all that is in it; two are kept. Weights that are
    not finite are never saved. `igpt_keras.training.fit` saves more often, and
    in the background.

    Args:
        directory: where checkpoints go.
        monitor: key of `logs` whose best checkpoint is kept beside the newest.
            A value that is not finite is never the best. `None` keeps no best.
            Defaults to `"val_loss"`.
        patience: optional int. Stop training after so many epochs without a
            better `monitor`, of those since there is one. Unlike
            `keras.callbacks.EarlyStopping` the count goes on when a run is
            resumed; one that is over trains an epoch more there, unless
            `out_of_patience` is asked first. Defaults to `None`, never.
        keep: ints. Epochs, from 1, whose checkpoints stay beside the two, to
            compare the weights of a run as it went. Defaults to none.
        mode: `"min"` if a lower `monitor` is better, or `"max"`. Defaults to
            `"min"`.

    Attributes:
        config: dict of JSON values, what the run depends on, which is kept in
            each checkpoint. `None` until it is set.
        write_best: function of the weights that are the best so far, a list of
            arrays, one for each of `model.variables`, such as a `PresetWriter`;
            called where checkpoints are written. `None` until it is set.
        writes: bool. Whether this process does; of several workers one does.
            `True` until it is set.
        place: dict, where in the run the checkpoint is that was restored or
            saved last: `step`, of the optimizer; `epoch`, those finished;
            `step_in_epoch`, steps after them; `loss` and `losses`, the sum of
            these steps' losses and their number; `evaluated`, whether what
            follows the last epoch is done.

    Example:

        checkpoint = igpt_keras.TrainingCheckpoint("runs/mine/checkpoints")
        epoch = checkpoint.restore(model)
        model.fit(dataset, initial_epoch=epoch, callbacks=[checkpoint], ...)

    Raises:
        ValueError: if `mode` is another, or `patience` has no `monitor`.
    """

    def __init__(
        self,
        directory,
        monitor="val_loss",
        patience=None,
        keep=(),
        mode="min",
    ):
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f'mode must be "min" or "max", received {mode!r}.')
        if patience is not None and monitor is None:
            raise ValueError(
                f"patience={patience} needs a monitor: the key of logs that "
                "should get better."
            )
        self.directory = user_path(directory)
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1
        self.patience = patience
        self.keep = frozenset(keep)
        self.write_best = None
        self.config = None
        self.writes = True
        self.best_value = None
        self.best_epoch = 0
        self.place = _place(0)
        self._kept = KeptCheckpoints(self.directory, self.keep, self.sign)
        self._writer = None
        self._failure = None
        self._lost = None
        self._made = False
        self._waits = False

    def on_epoch_begin(self, epoch, logs=None):
        # Another fit, which begins anew, has patience of its own.
        self.best_epoch = min(self.best_epoch, epoch)

    def on_epoch_end(self, epoch, logs=None):
        try:
            self.save(_place(optimizer_step(self.model), epoch + 1))
        except FloatingPointError as error:
            raise self.diverged(error, "directory") from error
        self.finish_epoch(logs)

    def save(self, place):
        """Writes a checkpoint of the model as it is.

        Args:
            place: dict, see `place`.

        Raises:
            FloatingPointError: if a weight is not finite.
            OSError: if it cannot be written, and not `in_background`.
        """
        self.place = place
        if not self.writes and not has_workers(self.model):
            return
        # All processes gather what each has a part of.
        arrays, variables = training_state(self.model)
        if not self.writes:
            return
        if not all(np.isfinite(a).all() for a in arrays.values()):
            raise FloatingPointError(
                f"weights are not finite after step {place['step']:,}"
            )
        manifest = {
            **self._manifest(value=None),
            "variables": variables,
            "versions": versions(),
            "config": self.config,
        }
        self._do(self._write, arrays, manifest)

    def diverged(self, error, place):
        """`FloatingPointError` of a run, which says what to do.

        Args:
            error: what went wrong.
            place: str. What to begin another run in.
        """
        return FloatingPointError(
            f"Training diverged: {error}. Checkpoints in {self.directory} are "
            f"from before. Start again in another {place} with a lower "
            "learning rate."
        )

    def finish_epoch(self, logs=None):
        """Notes in the last checkpoint that its epoch was evaluated.

        It is the best if `monitor` was never better; with `patience`, training
        ends if that is too long ago.

        Args:
            logs: dict of the epoch's numbers. Defaults to none.
        """
        logs = logs or {}
        value = logs.get(self.monitor)
        if value is None and self.best_value is None:
            self._wait_for_monitor(logs)
        if value is not None:
            value = float(value) if math.isfinite(value) else None
        if value is not None and (
            self.best_value is None
            or self.sign * value < self.sign * self.best_value
        ):
            self.best_value = value
            self.best_epoch = self.place["epoch"]
        self.place = {**self.place, "evaluated": True}
        if self.writes:
            self._do(self._finish, self.place["step"], self._manifest(value))
        if self.out_of_patience(self.place["epoch"]):
            self.model.stop_training = True

    def _wait_for_monitor(self, logs):
        self.best_epoch = self.place["epoch"]
        if self.patience is None or self._waits:
            return
        self._waits = True
        warnings.warn(
            f"patience={self.patience} waits for {self.monitor!r}, which is "
            f"not among what this epoch reported: {', '.join(logs)}. Pass "
            "validation_data, or another monitor.",
            stacklevel=2,
        )

    def out_of_patience(self, epoch):
        """Whether `patience` epochs up to `epoch` brought nothing better."""
        if self.patience is None:
            return False
        return epoch - self.best_epoch >= self.patience

    @contextlib.contextmanager
    def in_background(self):
        """Inside, what is saved is written while training goes on.

        What cannot be written, for want of space for example, is said and tried
        again with the next checkpoint; what there was stays. At the end the
        last one must be there.

        Raises:
            OSError: if the last one could not be written.
        """
        self._failure = self._lost = None
        self._writer = futures.ThreadPoolExecutor(1, "checkpoint")
        try:
            yield
        finally:
            self._writer.shutdown()
            self._writer = None
        if self._lost or self._failure:
            raise self._lost or self._failure

    def restore(self, model):
        """Loads the newest whole checkpoint into a compiled model.

        What was lost since, and other versions of libraries, are said.

        Returns:
            int. Finished epochs; 0 if there is no checkpoint. `place` says
            more.

        Raises:
            ValueError: if checkpoints belong to another model, or none of
                them is whole.
        """
        if self.writes:
            self._kept.remove_half_written()
        found = self._kept.read_newest()
        if found is None:
            return 0
        path, arrays, manifest = found
        assign_state(model, arrays, manifest["variables"], path)
        self.best_value = manifest["best_value"]
        self.best_epoch = manifest["best_epoch"]
        self.place = {key: manifest[key] for key in _place(0)}
        _say_versions(manifest["versions"])
        return manifest["epoch"]

    def restore_best(self, model):
        """Loads the checkpoint with the best `monitor`.

        Where that could not be written, it is the best of those that were,
        which is said.

        Returns:
            int. The epoch after which it was saved.

        Raises:
            ValueError: if it was damaged, or no epoch had a finite `monitor`.
        """
        found = self._kept.read_best()
        if found is None:
            raise ValueError(
                f"No {self._kept.best}: no epoch reported {self.monitor!r}, or "
                "none that is finite."
            )
        path, arrays, manifest = found
        assign_state(model, arrays, manifest["variables"], path)
        return manifest["epoch"]

    def _do(self, function, *arguments):
        """Writes, here or in the background."""
        if self._writer is None:
            function(*arguments)
            return
        self._writer.submit(self._try, function, *arguments)

    def _try(self, function, *arguments):
        try:
            function(*arguments)
        except (OSError, DamagedCheckpoint) as error:
            self._failure = error
            sys.stderr.write(
                f"\nNo checkpoint was written: {error}. Training goes on, and "
                "the next one is tried; those of before are as they were.\n"
            )

    def _write(self, arrays, manifest):
        if self._made and not self.directory.is_dir():
            self._lost = OSError(
                f"{self.directory} was deleted while training went on. "
                "Checkpoints are written there again; what else the run had "
                "is lost"
            )
        self._kept.write(arrays, manifest)
        self._made = True
        self._failure = None

    def _finish(self, step, changes):
        path = self._kept.path(step)
        if not path.is_dir():
            # What went wrong was said when it was written.
            return
        is_best = self._kept.finish(step, changes)
        if is_best and self.write_best is not None:
            arrays = read_arrays(path, "model_")
            try:
                self.write_best([arrays[key] for key in sorted(arrays)])
            except ValueError as error:
                # Such as a directory with other files in it.
                raise OSError(str(error)) from error

    def _manifest(self, value):
        return {
            **self.place,
            "value": value,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
        }


def versions():
    """dict of the versions of what numbers depend on."""
    backend, found = keras.backend.backend(), software_versions()
    return {
        "backend": backend,
        "keras": found["Keras"],
        "numpy": found["NumPy"],
        backend: found[backend],
    }


def _place(step, epoch=0, step_in_epoch=0, loss=0.0, losses=0, evaluated=False):
    return {
        "step": step,
        "epoch": epoch,
        "step_in_epoch": step_in_epoch,
        "loss": loss,
        "losses": losses,
        "evaluated": evaluated,
    }


def _say_versions(before):
    now = versions()
    others = [
        f"{name} {before.get(name)} then, {now[name]} now"
        for name in now
        if before.get(name) != now[name]
    ]
    if others:
        sys.stdout.write(
            "The run was begun with other versions, and may differ from here "
            f"on in the last digits: {'; '.join(others)}.\n"
        )
