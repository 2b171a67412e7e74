import sys
import time

import keras

from igpt_keras.backend import optimizer_step
from igpt_keras.callbacks.bar_line import end_bar_line
from igpt_keras.callbacks.only_shows import only_shows
from igpt_keras.reports.figures import titled_image
from igpt_keras.reports.pictures import COMPLETION_COLUMNS
from igpt_keras.reports.pictures import completion_rows
from igpt_keras.reports.pictures import first_half
from igpt_keras.reports.pictures import sample_pictures
from igpt_keras.reports.pictures import tile
from igpt_keras.storage.user_path import user_path


class PictureLog(keras.callbacks.Callback):
    """Samples and completions for TensorBoard as a model trains.

    `samples`, and `completions`, each titled by what it shows: a row an image,
    the half of it that comes first in the model's order, four completions and
    the original. A BERT model, which defines no order to sample in, has none.
    Works on an `IGPTClassifier` too. Needs TensorFlow to write.

    Sampling takes as long as many steps, more so for large images: `every` is
    for that, and `seconds` says it.

    Args:
        log_dir: directory for TensorBoard; `pictures` in it is written.
        tokenizer: tokenizer of the model that trains.
        images: uint8 `(B, R, R, 3)`; the first four are completed.
        num_samples: int. Defaults to 16.
        every: int. Draw after every so many epochs; 0: never. Defaults to 1.
        verbose: 0 or 1. Whether to say so. Defaults to 1.

    Attributes:
        seconds: float. Spent on pictures since training began, also on those
            that were interrupted.

    Raises:
        ValueError: if there is no image.

    Example:

        pictures = igpt_keras.PictureLog("logs", tokenizer, images)
        model.fit(..., callbacks=[pictures])
    """

    def __init__(
        self, log_dir, tokenizer, images, num_samples=16, every=1, verbose=1
    ):
        super().__init__()
        if not len(images):
            raise ValueError(
                "images is empty: pass at least one, (1, R, R, 3), to complete."
            )
        self.log_dir = user_path(log_dir)
        self.tokenizer = tokenizer
        self.images = images[:4]
        self.num_samples = num_samples
        self.every = every
        self.verbose = verbose
        self.seconds = 0.0

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self.seconds = 0.0
        self.writer = tf.summary.create_file_writer(
            str(self.log_dir / "pictures")
        )

    def on_epoch_end(self, epoch, logs=None):
        is_bert = self._igpt.objective == "bert"
        if is_bert or not self.every or (epoch + 1) % self.every:
            return
        start = time.perf_counter()
        step = optimizer_step(self.model)
        if self.verbose:
            end_bar_line(self, epoch)
            sys.stdout.write(f"Sampling pictures after step {step}.\n")
            sys.stdout.flush()
        try:
            with only_shows(self.log_dir):
                self._write(step)
        finally:
            self.seconds += time.perf_counter() - start

    def on_train_end(self, logs=None):
        with only_shows(self.log_dir):
            self.writer.close()
        # It cannot be copied, as searches do with callbacks.
        del self.writer

    @property
    def _igpt(self):
        return getattr(self.model, "igpt", self.model)

    def _write(self, step):
        import tensorflow as tf

        model = self._igpt
        samples, completions, originals = sample_pictures(
            model, self.tokenizer, self.images, self.num_samples, seed=0
        )
        rows = completion_rows(originals, completions, first_half(model))
        columns = len(rows) // len(originals)
        samples = titled_image(
            f"{self.num_samples} pictures drawn by the model after step "
            f"{step:,}",
            tile(samples, 8),
        )
        completions = titled_image(COMPLETION_COLUMNS, tile(rows, columns))
        with self.writer.as_default(step=step):
            tf.summary.image("samples", samples[None])
            tf.summary.image("completions", completions[None])
        self.writer.flush()
