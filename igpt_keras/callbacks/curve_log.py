import json

import keras

from igpt_keras.backend import optimizer_step
from igpt_keras.callbacks.only_shows import only_shows
from igpt_keras.reports.tables import markdown_table
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
        hyperparameters: optional dict of JSON values, shown under HParams,
            and under Text as a card, `run`. Written by the first step.
            Defaults to none.
        command: str. What was run, for the card. Defaults to none.

    Example:

        curves = igpt_keras.CurveLog("logs", {"learning_rate": 1e-3})
        model.fit(..., callbacks=[probe, curves])
    """

    def __init__(self, log_dir, hyperparameters=None, command=None):
        super().__init__(user_path(log_dir), write_graph=False)
        self.hyperparameters = hyperparameters
        self.command = command

    def on_train_begin(self, logs=None):
        super().on_train_begin(logs)
        if self.hyperparameters and optimizer_step(self.model) == 0:
            _write_card(self.log_dir, self.hyperparameters, self.command)

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
            with only_shows(self.log_dir):
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

    def on_train_end(self, logs=None):
        with only_shows(self.log_dir):
            super().on_train_end(logs)

    def on_test_begin(self, logs=None):
        pass

    def on_test_end(self, logs=None):
        pass


def _write_card(log_dir, values, command):
    import tensorflow as tf
    from tensorboard.plugins.hparams import api

    texts = {
        key: value if isinstance(value, str) else json.dumps(value)
        for key, value in values.items()
    }
    card = markdown_table([["setting", ""], *map(list, texts.items())])
    if command is not None:
        # TensorBoard's Markdown takes indented lines for code, and does not
        # break them.
        lines = command.replace(" --", " \\\n        --")
        card = f"    {lines}\n\n{card}"
    numbers = {
        key: value
        for key, value in values.items()
        if isinstance(value, (bool, int, float))
    }
    given = {k: v for k, v in texts.items() if values[k] not in (None, [])}
    writer = tf.summary.create_file_writer(str(log_dir))
    with writer.as_default(step=0):
        tf.summary.text("run", card)
        api.hparams({**given, **numbers})
    writer.close()
