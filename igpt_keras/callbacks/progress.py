import json
import time

import keras

from igpt_keras.backend import optimizer_step
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path

_SECONDS = ("train_seconds", "probe_seconds", "picture_seconds")


class Progress(keras.callbacks.Callback):
    """Seconds trained, losses and probes made by a run, across its restarts.

    Written to a JSON file after each epoch: `train_seconds`, without those of
    probes and pictures, which are `probe_seconds` and `picture_seconds`;
    `epochs`, of each its number from 1 as `epoch`, the optimizer steps taken
    as `step`, and the numbers in Keras's `logs`; and `probes`, the records of
    `LinearProbe.history`, each with the `validation_loss` of its epoch, so that
    loss can be drawn against accuracy. Put it behind both in the list of
    callbacks.

    Args:
        path: path of the JSON file.
        probes: list of `LinearProbe`. Defaults to none.
        pictures: list of `PictureLog`. Defaults to none.

    Attributes:
        seconds: dict of float: `train_seconds`, `probe_seconds` and
            `picture_seconds`.
        epochs: list of those dicts.
        probes: list of those records.

    Example:

        progress = igpt_keras.Progress("runs/mine/progress.json", [probe])
        epoch = checkpoint.restore(model)
        progress.restore(epoch)
        model.fit(..., initial_epoch=epoch, callbacks=[probe, progress])
    """

    def __init__(self, path, probes=(), pictures=()):
        super().__init__()
        self.path = user_path(path)
        self.callbacks = list(probes)
        self.pictures = list(pictures)
        self.seconds = dict.fromkeys(_SECONDS, 0.0)
        self.epochs = []
        self.probes = []

    def restore(self, epoch):
        """Reads what an earlier process wrote.

        Args:
            epoch: int. Finished epochs of the checkpoint to continue from;
                probes after it will be made again.
        """
        if epoch and self.path.is_file():
            saved = json.loads(self.path.read_text())
            self.seconds = {key: saved.get(key, 0.0) for key in _SECONDS}
            self.probes = [p for p in saved["probes"] if p["epoch"] <= epoch]
            self.epochs = [
                logs
                for logs in saved.get("epochs", [])
                if logs["epoch"] <= epoch
            ]

    def on_train_begin(self, logs=None):
        self._before = list(self.probes)
        self._seconds = dict(self.seconds)
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        numbers = {k: float(v) for k, v in (logs or {}).items()}
        step = optimizer_step(self.model)
        self.epochs.append({"epoch": epoch + 1, "step": step, **numbers})
        self._write()

    def on_train_end(self, logs=None):
        # A probe that stopped early makes its last one here.
        self._write()

    def _write(self):
        elapsed = time.perf_counter() - self._start
        records = [r for probe in self.callbacks for r in probe.history]
        probing = sum(record["seconds"] for record in records)
        drawing = sum(log.seconds for log in self.pictures)
        now = elapsed - probing - drawing, probing, drawing
        self.seconds = {
            key: self._seconds[key] + seconds
            for key, seconds in zip(_SECONDS, now)
        }
        losses = {logs["epoch"]: logs.get("val_loss") for logs in self.epochs}
        self.probes = self._before + [
            {**record, "validation_loss": losses.get(record["epoch"])}
            for record in records
        ]
        write_json(
            self.path,
            {**self.seconds, "epochs": self.epochs, "probes": self.probes},
        )
