import dataclasses
import operator
import os
import typing

import numpy as np

from igpt_keras.data.augment import decode_crop
from igpt_keras.data.order import places
from igpt_keras.data.order import shuffled
from igpt_keras.data.resize import resize_image

# TensorFlow's random numbers take seeds of 31 bits the same way everywhere.
_MOST = 2**31 - 1
# Places in the stream of images are int64; half is left for what is to come.
_MOST_IMAGES = 2**62


@dataclasses.dataclass(frozen=True)
class Split:
    """One split of a dataset: where its examples are, and how to read them.

    `open_split` makes it, once, without reading images.

    Attributes:
        name: str. The dataset's name.
        labels: int32 array `(M,)`; -1 where there are no labels.
        class_names: tuple of str, empty where there are no labels.
        input_resolution: int. Side of the images, or of the grid of tokens,
            `R`.
        fetch: function of an int64 scalar tensor in `[0, M)` to the image,
            uint8 `(H, W, 3)` or a JPEG as a string, inside `tf.data`; of
            tokens, of int64 `(B,)` to int32 `(B, N)`.
        augment: function of `data/augment.py` that training images go
            through, `None` for tokens.
        is_encoded: bool. Whether images are fetched as JPEGs.
        is_tokens: bool. Whether there are tokens in place of images.
        skipped: tuple of str, why pictures were left out.
        other_files: tuple of str, how many files there are of each kind that
            is not read.
        fingerprint: str, sha256 of the names of the images, in order, and of
            their labels; of a token cache, of its manifest; `None` of `npy:`.
        tokenizer: str, fingerprint of the tokenizer that made the tokens, or
            `None` where that is not known.
        with_validation: function without arguments to the `Split` of these
            images and those of validation. `None` where there is none.
    """

    name: str
    labels: np.ndarray
    class_names: tuple
    input_resolution: int
    fetch: typing.Callable
    augment: typing.Callable | None = None
    is_encoded: bool = False
    is_tokens: bool = False
    skipped: tuple = ()
    other_files: tuple = ()
    fingerprint: str | None = None
    tokenizer: str | None = None
    with_validation: typing.Callable | None = None

    def __len__(self):
        return len(self.labels)

    @property
    def num_classes(self):
        """int. Classes that there are, 0 without labels."""
        return len(self.class_names) or int(self.labels.max(initial=-1)) + 1

    def check_images(self):
        """Raises a `ValueError` if there are tokens in place of images."""
        if self.is_tokens:
            raise ValueError(
                f"{self.name} holds tokens already, and images are needed. "
                "Pass a dataset of images."
            )

    def check_tokenizer(self, tokenizer):
        """Raises a `ValueError` if these are tokens of another tokenizer."""
        if self.tokenizer not in (None, tokenizer.fingerprint):
            raise ValueError(
                f"{self.name} was made with another tokenizer than this one: "
                "its tokens mean other pictures. Leave out --palette and "
                "--tokenizer, or tokenize the dataset with this one."
            )

    def check_evaluable(self):
        """Raises a `ValueError` if it is for training alone, a `Mixture`."""

    def first(self, count):
        """The `Split` of the first `count` examples, a random sample."""
        return dataclasses.replace(
            self,
            labels=self.labels[:count],
            fingerprint=None,
            with_validation=None,
        )

    def stratified(self, count):
        """The `Split` of `count` examples, of each class its share.

        The first ones of each class, in the order of the split.
        """
        if count is None or count >= len(self):
            return self
        _, classes, sizes = np.unique(
            self.labels, return_inverse=True, return_counts=True
        )
        shares = count * sizes / len(self)
        counts = np.floor(shares).astype(int)
        # What rounding left goes to the largest remainders.
        rest = np.argsort(counts - shares, kind="stable")
        counts[rest[: count - counts.sum()]] += 1
        chosen = [
            np.flatnonzero(classes == label)[:number]
            for label, number in enumerate(counts)
        ]
        return self.subset(np.sort(np.concatenate(chosen)))

    def subset(self, indices):
        """The `Split` of the examples at int indices `(M',)`, in that order."""
        import tensorflow as tf

        labels, fetch = self.labels[indices], self.fetch
        indices = tf.constant(indices, tf.int64)
        return dataclasses.replace(
            self,
            labels=labels,
            fetch=lambda places: fetch(tf.gather(indices, places)),
            fingerprint=None,
            with_validation=None,
        )

    def batches(
        self,
        batch_size,
        training=False,
        seed=0,
        start_step=0,
        input_context=None,
    ):
        """Batches of images, or of token ids, and labels.

        Order and augmentation are as `image_dataset` says.

        Args:
            batch_size: int. Images in a batch, over all workers and replicas.
            training: bool. Whether batches are shuffled, augmented and never
                end. Defaults to `False`.
            seed: int in `[0, 2**31)`. Order and augmentation. Defaults to 0.
            start_step: int. Batches to skip. Defaults to 0.
            input_context: `tf.distribute.InputContext`. This worker's part of
                each batch is read and nothing else, in batches of one replica.
                Defaults to a single worker.

        Returns:
            `tf.data.Dataset` of `(images, labels)`: uint8 `(B, R, R, 3)`, or
            int32 token ids `(B, N)`, and int32 `(B,)`.

        Raises:
            ValueError: for bad arguments.
        """
        batch_size, seed, start_step = stream_arguments(
            batch_size, seed, start_step
        )
        count = len(self)
        order, batch_size = places(
            None if training else count, batch_size, start_step, input_context
        )
        if training:
            order = shuffled(order, count, seed)
        if self.is_tokens:
            return self._read_tokens(order, batch_size, training)
        return read(order, self.loader(training), batch_size, training)

    def sample(self, batch_size):
        """Batches of images that something is fitted on, such as a palette.

        As evaluation sees them, once; the first ones are a random sample of
        what a model trains on.
        """
        return self.batches(batch_size)

    def loader(self, training):
        """Function of an index to an image and its label, inside `tf.data`.

        Args:
            training: bool. Whether it takes `image_seed` too, and augments.
        """
        import tensorflow as tf

        labels = tf.constant(self.labels)

        def load(place):
            return self._for_evaluation(self.fetch(place)), labels[place]

        def load_augmented(index, image_seed):
            image = self.augment(
                self.fetch(index), self.input_resolution, image_seed
            )
            return resize_image(image, self.input_resolution), labels[index]

        return load_augmented if training else load

    @property
    def shares(self):
        """tuple of `(Split, float)`: what is trained on, here this alone."""
        return ((self, 1.0),)

    def describe_batch(self, batch_size, seed, step):
        """Which examples the training batch of a step is made of, as text.

        Args:
            batch_size: int.
            seed: int. Of the order.
            step: int, from 0.
        """
        order, _ = places(None, batch_size, step, None)
        order = shuffled(order, len(self), seed).take(batch_size)
        indices = [str(int(index)) for index, _ in order.as_numpy_iterator()]
        return f"examples {', '.join(indices)} of {self.name}"

    def _read_tokens(self, order, batch_size, training):
        import tensorflow as tf

        labels = tf.constant(self.labels)

        def load(indices):
            return self.fetch(indices), tf.gather(labels, indices)

        if training:
            order = order.map(lambda index, image_seed: index)
        order = order.batch(batch_size, drop_remainder=training)
        return _prefetched(order.map(load, os.cpu_count()))

    def _for_evaluation(self, image):
        """The same picture always: the centre square, resized.

        For ImageNet that is what the paper's short side of 224 and centre crop
        of 224x224 shows, resized once.
        """
        import tensorflow as tf

        if self.is_encoded:
            size = tf.io.extract_jpeg_shape(image)[:2]
            side = tf.reduce_min(size)
            image = decode_crop(image, (size - side) // 2, side)
        return resize_image(image, self.input_resolution)


def read(order, load, batch_size, training):
    """Batches of what `load` makes of an order; full ones in training."""
    dataset = order.map(load, os.cpu_count())
    return _prefetched(dataset.batch(batch_size, drop_remainder=training))


def _prefetched(dataset):
    import tensorflow as tf

    # TensorFlow 2.21: an autotuned iterator that ends can block, with Python's
    # lock held, for as long as it has run, up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.prefetch(2).with_options(options)


def stream_arguments(batch_size, seed, start_step):
    """Those of `Split.batches` as Python ints, or a `ValueError`."""
    batch_size = as_integer("batch_size", batch_size, 1)
    seed = as_integer("seed", seed, 0)
    most = _MOST_IMAGES // batch_size
    return batch_size, seed, as_integer("start_step", start_step, 0, most)


def as_integer(argument, value, least, most=_MOST):
    """A Python int of anything that is one, such as NumPy's."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        raise ValueError(
            f"{argument} must be an int >= {least} and <= {most}, received "
            f"{value!r}."
        )
    return number
