import math

import keras
import numpy as np


class TokenBatches(keras.utils.PyDataset):
    """Token ids in order; with masks for BERT, or with a prefix's length.

    The mask of image `i` is one of `seed` and `i`, whatever the batch size.

    Args:
        token_ids: int array `(M, N)`; a mapped file is read in batches.
        batch_size: int. Images in a batch.
        mask_rate: float. Share of tokens that are hidden. Defaults to `None`:
            there are no masks.
        seed: tuple of int. Of the masks. Defaults to none.
        prefix_length: int, of every image. Defaults to `None`: there is none.
    """

    def __init__(
        self, token_ids, batch_size, mask_rate=None, seed=(), prefix_length=None
    ):
        super().__init__()
        self.token_ids = token_ids
        self.batch_size = batch_size
        self.mask_rate = mask_rate
        self.seed = seed
        self.prefix_length = prefix_length

    def __len__(self):
        return math.ceil(len(self.token_ids) / self.batch_size)

    def __getitem__(self, batch):
        start = batch * self.batch_size
        token_ids = self.token_ids[start : start + self.batch_size]
        token_ids = np.asarray(token_ids, "int32")
        if self.prefix_length is not None:
            lengths = np.full(len(token_ids), self.prefix_length, "int32")
            return ({"token_ids": token_ids, "prefix_length": lengths},)
        if self.mask_rate is None:
            return (token_ids,)
        uniform = [
            np.random.default_rng((*self.seed, start + i)).random(len(row))
            for i, row in enumerate(token_ids)
        ]
        mask = np.stack(uniform) < self.mask_rate
        return ({"token_ids": token_ids, "mask": mask},)
