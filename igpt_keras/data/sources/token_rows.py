import numpy as np


class TokenRows:
    """Random access to token ids in arrays that follow one another.

    Args:
        parts: list of int arrays `(rows, N)`, such as mapped files.
    """

    def __init__(self, parts):
        self.parts = parts
        # Rows before each part, and in all.
        self.starts = np.cumsum([0] + [len(part) for part in parts])

    def fetch(self, indices):
        """Token ids, int32 `(B, N)`, inside `tf.data`.

        Args:
            indices: int64 tensor `(B,)`.
        """
        import tensorflow as tf

        token_ids = tf.numpy_function(self.read, [indices], tf.int32)
        return tf.ensure_shape(token_ids, (None, self.parts[0].shape[1]))

    def read(self, indices):
        """`fetch` of an int array."""
        rows = np.empty((len(indices), self.parts[0].shape[1]), "int32")
        which = np.searchsorted(self.starts, indices, side="right") - 1
        for part in np.unique(which):
            here = which == part
            places = indices[here] - self.starts[part]
            rows[here] = self.parts[part][places]
        return rows
