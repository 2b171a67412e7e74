import json
import math
import sys
import time

import keras

from igpt_keras.backend import optimizer_step
from igpt_keras.callbacks.only_shows import only_shows
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path

_SECONDS = ("train_seconds", "probe_seconds", "picture_seconds")


class Progress(keras.callbacks.Callback):
    """Seconds trained, losses and probes made by a run, across its restarts.

    Written to a JSON file after each epoch: `train_seconds`, without those of
    probes and pictures, which are `probe_seconds` and `picture_seconds`;
    `epochs`, of each its number from 1 as `epoch`, the optimizer steps taken
    as `step`, and the numbers in Keras's `logs`, of which those that are not
    finite are `null`; and `probes`, the records of
    `LinearProbe`, each with the `validation_loss` of its epoch, so that
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
        events: list of dicts, what else happened: those of
            `igpt_keras.training.LossWatch`.

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
        self.events = []

    def restore(self, epoch, step=None):
        """Reads what an earlier process wrote.

        Args:
            epoch: int. Finished epochs of the checkpoint to continue from;
                probes after it will be made again.
            step: optional int. Its optimizer steps, where that may be in the
                middle of an epoch; events after it will come again. Defaults
                to `None`: it is at the end of an epoch.
        """
        if not ((epoch or step) and self.path.is_file()):
            return
        try:
            saved = json.loads(self.path.read_text())
            seconds = {key: float(saved[key]) for key in _SECONDS}
            probes = [p for p in saved["probes"] if p["epoch"] <= epoch]
            epochs = [e for e in saved["epochs"] if e["epoch"] <= epoch]
            events = [
                e for e in saved["events"] if step is None or e["step"] <= step
            ]
        except (OSError, ValueError, KeyError, TypeError) as error:
            sys.stdout.write(
                f"{self.path} is damaged ({error}): what it showed of the run "
                "so far is lost, and nothing else.\n"
            )
            return
        self.seconds, self.probes, self.epochs = seconds, probes, epochs
        self.events = events

    def on_train_begin(self, logs=None):
        self._before = list(self.probes)
        self._seconds = dict(self.seconds)
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        # JSON has no NaN and no infinity.
        numbers = {
            key: float(value) if math.isfinite(value) else None
            for key, value in (logs or {}).items()
        }
        step = optimizer_step(self.model)
        self.epochs.append({"epoch": epoch + 1, "step": step, **numbers})
        self.save()

    def on_train_end(self, logs=None):
        # A probe that stopped early makes its last one here.
        self.save()

    def save(self):
        """Writes the file as things are, also in the middle of an epoch."""
        elapsed = time.perf_counter() - self._start
        records = [r for probe in self.callbacks for r in probe.fit_history]
        probing = sum(probe.seconds for probe in self.callbacks)
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
        with only_shows(self.path):
            write_json(
                self.path,
                {
                    **self.seconds,
                    "epochs": self.epochs,
                    "probes": self.probes,
                    "events": self.events,
                },
            )
