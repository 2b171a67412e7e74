import json
import zipfile

import keras
import numpy as np

from igpt_keras.backend import model_scope
from igpt_keras.storage.atomic_file import atomic_file
from igpt_keras.storage.user_path import user_path

FORMAT = 1


class TrainingCheckpoint(keras.callbacks.Callback):
    """Saves a run after each epoch so that it continues bit for bit.

    A checkpoint holds all variables of the model and its optimizer, and the
    number of finished epochs. With batches that are a function of the step
    (`image_dataset(..., start_step=...)`) a run that was stopped and resumed
    ends with the weights of one that was not; no stock Keras callback does
    that. A file is written under another name and renamed when whole, and two
    are kept. Weights that are not finite are never saved.

    Args:
        directory: where checkpoints go.
        monitor: key of `logs` whose best checkpoint is kept beside the newest.
            `None` keeps no best. Defaults to `"val_loss"`.
        patience: optional int. Stop training after so many epochs without a
            better `monitor`. Unlike `keras.callbacks.EarlyStopping` the count
            goes on when a run is resumed. Defaults to `None`, never.
        keep: ints. Epochs, from 1, whose checkpoints stay beside the two, to
            compare the weights of a run as it went. Defaults to none.
        mode: `"min"` if a lower `monitor` is better, or `"max"`. Defaults to
            `"min"`.

    Example:

        checkpoint = igpt_keras.TrainingCheckpoint("runs/mine/checkpoints")
        epoch = checkpoint.restore(model)
        model.fit(dataset, initial_epoch=epoch, callbacks=[checkpoint], ...)
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
        self.directory = user_path(directory)
        self.monitor = monitor
        self.sign = 1 if mode == "min" else -1
        self.patience = patience
        self.keep = frozenset(keep)
        self.best_value = self.sign * float("inf")
        self.best_epoch = 0

    def on_epoch_end(self, epoch, logs=None):
        value = (logs or {}).get(self.monitor)
        best = value is not None and (
            self.sign * value < self.sign * self.best_value
        )
        if best:
            self.best_value = float(value)
            self.best_epoch = epoch + 1
        arrays = _state(self.model)
        if not all(np.isfinite(a).all() for a in arrays.values()):
            raise FloatingPointError(
                f"Weights are not finite after epoch {epoch + 1}: training "
                f"diverged. The last checkpoints in {self.directory} are from "
                "before. Lower the learning rate and resume."
            )
        manifest = {
            "format": FORMAT,
            "epoch": epoch + 1,
            "best_value": self.best_value,
            "best_epoch": self.best_epoch,
        }
        self.directory.mkdir(parents=True, exist_ok=True)
        # The best first: the newest one's manifest speaks of it.
        if best:
            _write(self.directory / "best.npz", arrays, manifest)
        _write(self.directory / f"epoch_{epoch + 1:08d}.npz", arrays, manifest)
        for old in self._epochs()[:-2]:
            if _epoch_of(old) not in self.keep:
                old.unlink()
        if self.out_of_patience(epoch + 1):
            self.model.stop_training = True

    def out_of_patience(self, epoch):
        """Whether `patience` epochs up to `epoch` brought nothing better."""
        if self.patience is None:
            return False
        return epoch - self.best_epoch >= self.patience

    def restore(self, model):
        """Loads the newest whole checkpoint into a compiled model.

        Returns:
            int. Finished epochs; 0 if there is no checkpoint.

        Raises:
            ValueError: if checkpoints belong to another model, or none of
                them is whole.
        """
        damaged = []
        for path in reversed(self._epochs()):
            try:
                arrays, manifest = _read(path)
            except _Damaged as error:
                damaged.append(str(error))
                continue
            _assign(model, arrays, path)
            self.best_value = manifest["best_value"]
            self.best_epoch = manifest["best_epoch"]
            return manifest["epoch"]
        if damaged:
            raise ValueError(
                "No whole checkpoint to resume from: " + "; ".join(damaged)
            )
        return 0

    def restore_best(self, model):
        """Loads the checkpoint with the best `monitor`.

        Returns:
            int. The epoch after which it was saved.
        """
        path = self.directory / "best.npz"
        if not path.is_file():
            raise ValueError(f"No {path}: no epoch reported {self.monitor!r}.")
        try:
            arrays, manifest = _read(path)
        except _Damaged as error:
            raise ValueError(str(error)) from error
        _assign(model, arrays, path)
        return manifest["epoch"]

    def _epochs(self):
        return sorted(self.directory.glob("epoch_*.npz"))


def _epoch_of(path):
    return int(path.stem.removeprefix("epoch_"))


class _Damaged(Exception):
    pass


def _variables(model):
    if not model.optimizer.built:
        # Under `tf.distribute` the optimizer's variables belong in its scope.
        with model_scope(model):
            model.optimizer.build(model.trainable_variables)
    # By position and not by name: names of optimizer slots are not unique.
    return {
        **{f"model_{i:05d}": v for i, v in enumerate(model.variables)},
        **{
            f"optimizer_{i:05d}": v
            for i, v in enumerate(model.optimizer.variables)
        },
    }


def _state(model):
    return {
        key: keras.ops.convert_to_numpy(variable)
        for key, variable in _variables(model).items()
    }


def _write(path, arrays, manifest):
    with atomic_file(path) as file:
        np.savez(file, manifest=json.dumps(manifest), **arrays)


def _read(path):
    try:
        with np.load(path, allow_pickle=False) as file:
            # Reading a member checks its CRC.
            arrays = {key: file[key] for key in file.files}
        manifest = json.loads(str(arrays.pop("manifest")))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise _Damaged(f"{path} is damaged ({e})") from e
    if manifest["format"] != FORMAT:
        raise ValueError(
            f"{path} has checkpoint format {manifest['format']}, this version "
            f"reads {FORMAT}."
        )
    return arrays, manifest


def _assign(model, arrays, path):
    variables = _variables(model)
    found = {key: array.shape for key, array in arrays.items()}
    expected = {key: tuple(v.shape) for key, v in variables.items()}
    if found != expected:
        keys = [
            key
            for key in sorted(set(found) | set(expected))
            if found.get(key) != expected.get(key)
        ]
        raise ValueError(
            f"{path} belongs to another model or optimizer: {len(keys)} of "
            f"{len(expected)} variables differ, the first being {keys[0]} "
            f"({found.get(keys[0])} saved, {expected.get(keys[0])} expected). "
            "Use the run's own settings, or another directory."
        )
    for key, variable in variables.items():
        variable.assign(arrays[key])
