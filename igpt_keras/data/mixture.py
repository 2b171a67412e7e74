import dataclasses
import functools
import hashlib
import json

import numpy as np

from igpt_keras.data.mixture_order import mixed
from igpt_keras.data.mixture_order import shuffled_sources
from igpt_keras.data.order import places
from igpt_keras.data.split import read
from igpt_keras.data.split import stream_arguments


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Training images of several datasets, in given shares, to train on.

    The blog's iGPT-XL was trained on ImageNet and images of the web. The
    stream comes in blocks of a thousand images, or of more where the weights
    do not go into that: as many of each source as are its share exactly, in an
    order drawn from (seed, block).
    What a source gives is its own stream of shuffled epochs, independent of
    the others' and, for the first source, the one that it has alone: a small
    source goes through many epochs while a large one goes through its first.
    A place hence holds the same image however it was come to, from any step
    and on any number of workers.

    Images go through their own dataset's augmentation, to one resolution.
    Classes are those of the first source, as are validation, test and probes:
    `open_split` gives its splits for them. `open_split` makes this for
    training, once, without reading images.

    Attributes:
        name: str, with the weights.
        sources: tuple of `Split` of images of one resolution, `(K,)`.
        parts: tuple of int > 0, `(K,)`. Of every `sum(parts)` images, how many
            are of each source.
    """

    name: str
    sources: tuple
    parts: tuple
    is_tokens = False

    def __len__(self):
        return sum(map(len, self.sources))

    @property
    def labels(self):
        """int32 array `(M,)`, source by source: -1 but of the first one."""
        first = self.sources[0].labels
        rest = np.full(len(self) - len(first), -1, "int32")
        return np.concatenate([first, rest])

    @property
    def class_names(self):
        """tuple of str, of the first source."""
        return self.sources[0].class_names

    @property
    def num_classes(self):
        """int, of the first source."""
        return self.sources[0].num_classes

    @property
    def input_resolution(self):
        """int. Side of the images, `R`."""
        return self.sources[0].input_resolution

    @property
    def shares(self):
        """tuple of `(Split, float)`: each source, and its share of images."""
        shares = np.array(self.parts) / sum(self.parts)
        return tuple(zip(self.sources, shares.tolist()))

    @property
    def skipped(self):
        """tuple of str, why pictures were left out, of all sources."""
        return sum((source.skipped for source in self.sources), ())

    @property
    def other_files(self):
        """tuple of str, as of `Split`, of all sources."""
        return sum((source.other_files for source in self.sources), ())

    @property
    def fingerprint(self):
        """str, sha256 of the sources' fingerprints and of their parts."""
        each = [source.fingerprint for source in self.sources]
        text = json.dumps([each, self.parts])
        return hashlib.sha256(text.encode()).hexdigest()

    def check_images(self):
        """Nothing: there are no tokens. As of `Split`."""

    def check_tokenizer(self, tokenizer):
        """Nothing: there are no tokens. As of `Split`."""

    def check_evaluable(self):
        """Raises a `ValueError`, as this is to train on alone."""
        raise ValueError(
            f"{self.name} is a mixture, which pretraining, palettes and "
            "VQ-VAEs are trained on and nothing else. Pass one of its sources."
        )

    def with_validation(self):
        """The `Mixture` of the sources, each with its own validation images."""
        folded = tuple(source.with_validation() for source in self.sources)
        return dataclasses.replace(self, sources=folded)

    def stratified(self, count):
        """`Split.stratified` of the first source, which is what is probed."""
        return self.sources[0].stratified(count)

    def batches(
        self,
        batch_size,
        training=False,
        seed=0,
        start_step=0,
        input_context=None,
    ):
        """Endless batches to train on; arguments as for `Split.batches`.

        Returns:
            `tf.data.Dataset` of `(images, labels)`: uint8 `(B, R, R, 3)` and
            int32 `(B,)`, -1 but for images of the first source.

        Raises:
            ValueError: for bad arguments, and without `training`.
        """
        if not training:
            self.check_evaluable()
        batch_size, seed, start_step = stream_arguments(
            batch_size, seed, start_step
        )
        order, batch_size = places(None, batch_size, start_step, input_context)
        order = self._order(order, seed)
        return read(order, self._loader(True), batch_size, True)

    def sample(self, batch_size):
        """As of `Split`: the stream's first `M` images, without augmentation.

        They are in their shares, and hence not each once.
        """
        order, _ = places(len(self), batch_size, 0, None)
        order = self._order(order, 0)
        return read(order, self._loader(False), batch_size, False)

    def describe_batch(self, batch_size, seed, step):
        """`Split.describe_batch`, source by source."""
        order, _ = places(None, batch_size, step, None)
        order = self._order(order, seed).take(batch_size)
        found = [[] for _ in self.sources]
        for source, index, _ in order.as_numpy_iterator():
            found[source].append(str(int(index)))
        return "; ".join(
            f"examples {', '.join(indices)} of {source.name}"
            for source, indices in zip(self.sources, found)
            if indices
        )

    def _order(self, order, seed):
        counts = [len(source) for source in self.sources]
        return shuffled_sources(mixed(order, self.parts, seed), counts, seed)

    def _loader(self, training):
        """Function of what the order holds to `(image, label)`."""
        import tensorflow as tf

        loaders = [source.loader(training) for source in self.sources]
        no_label = tf.constant(-1, tf.int32)

        def load(source, index, image_seed):
            at = (index, image_seed) if training else (index,)

            def load_of(k):
                image, label = loaders[k](*at)
                return image, no_label if k else label

            cases = [functools.partial(load_of, k) for k in range(len(loaders))]
            return tf.switch_case(tf.cast(source, tf.int32), cases)

        return load
