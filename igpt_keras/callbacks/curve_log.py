import json

import keras

from igpt_keras.backend import optimizer_step
from igpt_keras.callbacks.only_shows import only_shows
from igpt_keras.storage.user_path import user_path


class CurveLog(keras.callbacks.TensorBoard):
    """Losses and metrics for TensorBoard, against optimizer steps.

    Keras's callback, with what `LinearProbe` and the other callbacks of this
    package need beside it: their x axis, which goes on when a run does, and
    each value once (the probe writes its own, and Keras's
    `evaluation_..._vs_iterations` are its `epoch_...` again). The tags are
    Keras's: `epoch_loss` and so on, in the runs `train` and `validation`. Needs
    TensorFlow to write.

    Args:
        log_dir: directory for TensorBoard.
        hyperparameters: optional dict of JSON values, shown under Text and
            HParams. Written by the first step. Defaults to none.

    Example:

        curves = igpt_keras.CurveLog("logs", {"learning_rate": 1e-3})
        model.fit(..., callbacks=[probe, curves])
    """

    def __init__(self, log_dir, hyperparameters=None):
        super().__init__(user_path(log_dir), write_graph=False)
        self.hyperparameters = hyperparameters

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.hyperparameters and optimizer_step(self.model) == 0:
            _write_hyperparameters(self.log_dir, self.hyperparameters)

    def log_steps(self, values):
        """Writes numbers of the last steps, and the learning rate.

        Args:
            values: dict of float.
        """
        step = optimizer_step(self.model)
        with only_shows(self.log_dir), self._train_writer.as_default(step):
            for name, value in self._collect_learning_rate(values).items():
                self.summary.scalar(name, value)

    def flush(self):
        """Brings what was written to the disk."""
        for writer in self._writers.values():
            writer.flush()

    def on_train_batch_begin(self, batch, logs=None):
        pass

    def on_train_batch_end(self, batch, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        logs = {
            key: value
            for key, value in (logs or {}).items()
            if "val_probe_" not in key
        }
        with only_shows(self.log_dir):
            super().on_epoch_end(optimizer_step(self.model), logs)

    def on_test_begin(self, logs=None):
        pass

    def on_test_end(self, logs=None):
        pass


def _write_hyperparameters(log_dir, values):
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }
    table = ["| | |", "| --- | --- |"]
    table += [f"| {key} | {text} |" for key, text in texts.items()]
    numbers = {
        key: value
        for key, value in values.items()
        if isinstance(value, (bool, int, float))
    }
    writer = tf.summary.create_file_writer(str(log_dir))
    with writer.as_default(step=0):
        tf.summary.text("hyperparameters", "\n".join(table))
        api.hparams({**texts, **numbers})
    writer.close()
