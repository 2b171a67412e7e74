import keras

from igpt_keras.backend import optimizer_step
from igpt_keras.reports.pictures import completion_rows
from igpt_keras.reports.pictures import enlarge
from igpt_keras.reports.pictures import sample_pictures
from igpt_keras.reports.pictures import tile
from igpt_keras.storage.user_path import user_path


class PictureLog(keras.callbacks.Callback):
    """Samples and completions for TensorBoard after each epoch.

    `samples`, and `completions`: a row an image, its upper half, four
    completions and the original. A BERT model, which defines no order to
    sample in, has none. Needs TensorFlow to write.

    Args:
        log_dir: directory for TensorBoard; `pictures` in it is written.
        tokenizer: tokenizer of the model that trains.
        images: uint8 `(B, R, R, 3)`; the first four are completed.
        num_samples: int. Defaults to 16.

    Example:

        pictures = igpt_keras.PictureLog("logs", tokenizer, images)
        model.fit(..., callbacks=[pictures])
    """

    def __init__(self, log_dir, tokenizer, images, num_samples=16):
        super().__init__()
        self.log_dir = user_path(log_dir)
        self.tokenizer = tokenizer
        self.images = images[:4]
        self.num_samples = num_samples

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(
            str(self.log_dir / "pictures")
        )

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        if self.model.objective != "autoregressive":
            return
        samples, completions = sample_pictures(
            self.model, self.tokenizer, self.images, self.num_samples, seed=0
        )
        rows = completion_rows(self.images, completions)
        with self.writer.as_default(step=optimizer_step(self.model)):
            for name, grid in (
                ("samples", tile(samples, 8)),
                ("completions", tile(rows, rows.shape[0] // len(self.images))),
            ):
                tf.summary.image(name, enlarge(grid)[None])
        self.writer.flush()

    def on_train_end(self, logs=None):
        self.writer.close()
