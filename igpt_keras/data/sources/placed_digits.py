import numpy as np

from igpt_keras.data.sources.digits import Digits


class PlacedDigits(Digits):
    """`Digits`, each somewhere on a black canvas of 12x12.

    Raw pixels nearly separate digits that are centred, and not these: what a
    probe reads of them has to be found wherever it is. Where a digit is
    follows from its hash; the splits are those of `Digits`.
    """

    default_resolution = 12

    def __init__(self):
        super().__init__()
        import tensorflow as tf

        digits = self._images.numpy()
        side = digits.shape[1]
        room = self.default_resolution - side + 1
        canvas = np.pad(digits, [(0, 0), (0, room - 1), (0, room - 1), (0, 0)])
        # Of a sha256, the bytes that no split is chosen by.
        moved = [
            np.roll(image, digest[-2:] % room, axis=(0, 1))
            for image, digest in zip(canvas, self.hashes)
        ]
        self._images = tf.constant(np.stack(moved))
