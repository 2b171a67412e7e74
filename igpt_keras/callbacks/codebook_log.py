import keras
import numpy as np

from igpt_keras.backend import optimizer_step
from igpt_keras.callbacks.only_shows import only_shows
from igpt_keras.reports.figures import titled_image
from igpt_keras.reports.pictures import tile
from igpt_keras.storage.user_path import user_path

NUM_PICTURES = 8
HISTOGRAM_IMAGES = 128


class CodebookLog(keras.callbacks.Callback):
    """Pictures and the codebook of a VQ-VAE for TensorBoard, after each epoch.

    Reconstructions under their originals; how often each code is used in the
    first 128 images, as a histogram; codes revived in the epoch. The Keras
    callback writes the other curves. Needs TensorFlow to write.

    Args:
        log_dir: directory for TensorBoard; `codebook` in it is written.
        images: uint8 `(M, R, R, 3)`, of validation.

    Example:

        codebook = igpt_keras.CodebookLog("logs", images)
        vq_vae.fit(..., callbacks=[codebook])
    """

    def __init__(self, log_dir, images):
        super().__init__()
        self.log_dir = user_path(log_dir)
        self.images = images[:HISTOGRAM_IMAGES]

    def on_train_begin(self, logs=None):
        import tensorflow as tf

        self.writer = tf.summary.create_file_writer(
            str(self.log_dir / "codebook")
        )
        self.revived = self._revived()

    def on_epoch_end(self, epoch, logs=None):
        import tensorflow as tf

        vq_vae = self.model
        token_ids = [
            keras.ops.convert_to_numpy(vq_vae.encode(self.images[i : i + 16]))
            for i in range(0, len(self.images), 16)
        ]
        token_ids = np.concatenate(token_ids)
        size = vq_vae.vocabulary_size
        counts = np.bincount(token_ids.ravel(), minlength=size)
        before = self.images[:NUM_PICTURES]
        after = vq_vae.decode(token_ids[:NUM_PICTURES])
        after = keras.ops.convert_to_numpy(after)
        grid = tile(np.concatenate([before, after]), len(before))
        step = optimizer_step(vq_vae)
        picture = titled_image(
            f"originals, and what they come back as after step {step:,}", grid
        )
        with only_shows(self.log_dir), self.writer.as_default(step):
            tf.summary.image("originals_and_reconstructions", picture[None])
            tf.summary.histogram("code_usage", counts)
            revived = self._revived()
            if revived is not None:
                tf.summary.scalar("revived_codes", revived - self.revived)
                self.revived = revived
            self.writer.flush()

    def on_train_end(self, logs=None):
        with only_shows(self.log_dir):
            self.writer.close()
        # It cannot be copied, as searches do with callbacks.
        del self.writer

    def _revived(self):
        revived = getattr(self.model.quantizer, "revived", None)
        if revived is None:
            return None
        return float(keras.ops.convert_to_numpy(revived))
