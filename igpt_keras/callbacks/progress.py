import json
import time

import keras

from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path


class Progress(keras.callbacks.Callback):
    """Seconds trained and probes made by a run, across its restarts.

    Written to a JSON file after each epoch: `train_seconds`, and `probes`, the
    records of `LinearProbe.history`, each with the `validation_loss` of its
    epoch, so that loss can be drawn against accuracy. Put it behind the probes
    in the list of callbacks.

    Args:
        path: path of the JSON file.
        probes: list of `LinearProbe`. Defaults to none.

    Attributes:
        train_seconds: float.
        probes: list of those records.

    Example:

        progress = igpt_keras.Progress("runs/mine/progress.json", [probe])
        epoch = checkpoint.restore(model)
        progress.restore(epoch)
        model.fit(..., initial_epoch=epoch, callbacks=[probe, progress])
    """

    def __init__(self, path, probes=()):
        super().__init__()
        self.path = user_path(path)
        self.callbacks = list(probes)
        self.train_seconds = 0.0
        self.probes = []

    def restore(self, epoch):
        """Reads what an earlier process wrote.

        Args:
            epoch: int. Finished epochs of the checkpoint to continue from;
                probes after it will be made again.
        """
        if epoch and self.path.is_file():
            saved = json.loads(self.path.read_text())
            self.train_seconds = saved["train_seconds"]
            self.probes = [p for p in saved["probes"] if p["epoch"] <= epoch]

    def on_train_begin(self, logs=None):
        self._before = list(self.probes)
        self._losses = {}
        self._seconds = self.train_seconds
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self._losses[epoch + 1] = (logs or {}).get("val_loss")
        self._write()

    def on_train_end(self, logs=None):
        # A probe that stopped early makes its last one here.
        self._write()

    def _write(self):
        elapsed = time.perf_counter() - self._start
        self.train_seconds = self._seconds + elapsed
        self.probes = self._before + [
            {**record, "validation_loss": self._losses.get(record["epoch"])}
            for probe in self.callbacks
            for record in probe.history
        ]
        write_json(
            self.path,
            {"train_seconds": self.train_seconds, "probes": self.probes},
        )
