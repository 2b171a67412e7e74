import hashlib

import numpy as np

from igpt_keras.data import augment


class Digits:
    """scikit-learn's 1,797 handwritten digits of 8x8.

    Attributes:
        hashes: uint8 array `(1797, 32)`, sha256 of each image's number.
        labels: int32 array `(1797,)`.
        class_names: tuple of str, `"0"` to `"9"`.
    """

    default_resolution = 8
    augment = staticmethod(augment.shift)
    is_encoded = False

    def __init__(self):
        import tensorflow as tf
        from sklearn.datasets import load_digits

        digits = load_digits()
        # Grey levels 0 to 16.
        images = np.rint(digits.images * (255 / 16)).astype("uint8")
        images = np.repeat(images[..., None], 3, axis=-1)
        # Captured by reference: not a constant of the graph.
        self._images = tf.constant(images)
        self.labels = digits.target.astype("int32")
        self.class_names = tuple(str(i) for i in range(10))
        digests = [
            hashlib.sha256(f"digits/{i}".encode()).digest()
            for i in range(len(images))
        ]
        self.hashes = np.frombuffer(b"".join(digests), "uint8").reshape(-1, 32)

    def fetch(self, index):
        """The image, uint8 `(8, 8, 3)`, inside `tf.data`."""
        return self._images[index]
