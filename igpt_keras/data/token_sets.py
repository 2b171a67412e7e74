import dataclasses
import functools
import os
import typing

import keras
import numpy as np

from igpt_keras.data.draw_prefixes import draw_prefixes
from igpt_keras.data.mask_tokens import mask_tokens
from igpt_keras.data.split import Split


class TokenSets:
    """Splits of a dataset as token ids, as a model trains on them.

    Args:
        tokenizer: tokenizer of the images; for a split of tokens, which are
            not tokenized again, the one that made them.
        batch_size: int. Images in a batch, over all replicas.
        objective: `"autoregressive"` or `"bert"`. Defaults to the first.
        mask_rate: float. Share of tokens that BERT hides. Defaults to 0.15.
        seed: int. Order, augmentation, masks and prefixes. Defaults to 0.
        attention: str, as for `IGPT`: `"prefix_causal"` draws prefixes.
            Defaults to none.

    Example:

        sets = igpt_keras.data.TokenSets(tokenizer, batch_size=64)
        validation = sets.evaluation(open_split("digits", "validation"))
        model.fit(
            sets.training(open_split("digits", "train")),
            steps_per_epoch=100, validation_data=validation.inputs,
        )
    """

    def __init__(
        self,
        tokenizer,
        batch_size,
        objective="autoregressive",
        mask_rate=0.15,
        seed=0,
        attention=None,
    ):
        self.tokenizer = tokenizer
        self.batch_size = batch_size
        self.objective = objective
        self.mask_rate = mask_rate
        self.seed = seed
        self.takes_prefix = attention == "prefix_causal"
        self._traced = functools.cache(functools.partial(_trace, tokenizer))

    def training(self, split, start_step=0, labels=False, input_context=None):
        """Endless shuffled batches for `fit`, from a step on.

        Args:
            split: `Split` or `Mixture`.
            start_step: int. Steps that are done. Defaults to 0.
            labels: bool. Whether the split's labels are the targets, as
                `IGPTClassifier.fit` takes them. Defaults to `False`, token ids.
            input_context: as for `image_dataset`. Defaults to one worker.

        Returns:
            `tf.data.Dataset` of `(inputs, token_ids)`, or `(inputs, labels)`.
        """
        dataset = split.batches(
            self.batch_size,
            training=True,
            seed=self.seed,
            start_step=start_step,
            input_context=input_context,
        )
        tokens = tokenize(dataset, self.tokenizer, self._traced)
        if self.takes_prefix:
            return draw_prefixes(
                tokens, self.seed, start_step, labels, input_context
            )
        return self._inputs(
            tokens,
            labels,
            start_step=start_step,
            input_context=input_context,
        )

    def training_from(self, split, labels=False):
        """What `igpt_keras.training.fit` takes: `training` as a function.

        Of a step, and optionally of an `input_context`.
        """
        return lambda step, input_context=None: self.training(
            split, step, labels, input_context
        )

    def describe_batch(self, split):
        """A function of a step to a str, see `Split.describe_batch`."""
        return functools.partial(
            split.describe_batch, self.batch_size, self.seed
        )

    def evaluation(self, split, limit=None):
        """An `EvaluationSet` of a split's images, or of the first `limit`."""
        split.check_evaluable()
        split.check_tokenizer(self.tokenizer)
        if limit is not None:
            split = split.first(limit)
        dataset = split.batches(self.batch_size)
        tokens = tokenize(dataset, self.tokenizer, self._traced).cache()
        return EvaluationSet(
            split,
            self.tokenizer,
            dataset,
            tokens,
            self._inputs(tokens),
            functools.partial(self._inputs, tokens, True),
            self.takes_prefix,
        )

    def evaluations(self, splits, limit=None):
        """`evaluation` of `splits["validation"]` and of `splits["test"]`."""
        return [
            self.evaluation(splits[name], limit)
            for name in ("validation", "test")
        ]

    def _inputs(
        self, tokens, labels=False, mask=0, start_step=0, input_context=None
    ):
        """`(inputs, targets)`; for BERT under the masks of that number."""
        if self.objective == "bert":
            # Masked at evaluation too (section 4.6). The first masks are those
            # of training; a seed has less than 32 bits.
            seed = self.seed + (mask << 32)
            return mask_tokens(
                tokens, self.mask_rate, seed, start_step, labels, input_context
            )
        if labels:
            return tokens
        inputs = tokens.map(lambda token_ids, _: (token_ids, token_ids))
        return inputs.map(_without_prefix) if self.takes_prefix else inputs


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Images of a split, once in order: for pictures, for probes, for the loss.

    Token ids stay in memory once they were made; images are read each time.

    Attributes:
        split: `Split` of these images.
        tokenizer: their tokenizer.
        dataset: `tf.data.Dataset` of `(images, labels)`, or of tokens.
        tokens: `tf.data.Dataset` of `(token_ids, labels)`.
        inputs: `tf.data.Dataset` of `(inputs, token_ids)`, for
            `IGPT.evaluate`.
        masked: function of an int, 0 for the first masks, to a
            `tf.data.Dataset` of `(inputs, labels)`; for BERT under masks, each
            number's independent of the others'.
        takes_prefix: bool. Whether inputs of the loss have a prefix, an empty
            one: every token is predicted from those before it.
    """

    split: Split
    tokenizer: typing.Callable
    dataset: typing.Any
    tokens: typing.Any
    inputs: typing.Any
    masked: typing.Callable
    takes_prefix: bool

    @property
    def probe_inputs(self):
        """`tf.data.Dataset` of `(inputs, labels)`, BERT's under a mask.

        For `extract_features` and `LinearProbe`, which see whole images.
        """
        return self.masked(0)

    @property
    def classified(self):
        """`tf.data.Dataset` of `(inputs, labels)`, for `IGPTClassifier`.

        Classes are of whole images, the loss of tokens without a prefix.
        """
        if self.takes_prefix:
            return self.tokens.map(_without_prefix)
        return self.masked(0)

    @property
    def labels(self):
        """int32 array `(M,)`."""
        return self.split.labels

    @property
    def token_ids(self):
        """int32 array `(M, N)`."""
        token_ids = [x for x, _ in self.tokens.as_numpy_iterator()]
        return np.concatenate(token_ids)

    def image_batches(self):
        """Generates uint8 `(B, R, R, 3)`; of tokens, what they show."""
        for batch, _ in self.dataset.as_numpy_iterator():
            if self.split.is_tokens:
                batch = self.tokenizer.detokenize(batch)
            yield keras.ops.convert_to_numpy(batch)

    def first_images(self, count):
        """The first `count` images, uint8 `(count, R, R, 3)`."""
        found, images = 0, []
        for batch in self.image_batches():
            images.append(batch[: count - found])
            found += len(images[-1])
            if found == count:
                break
        return np.concatenate(images)


def _without_prefix(token_ids, targets):
    lengths = token_ids[:, 0] * 0
    return {"token_ids": token_ids, "prefix_length": lengths}, targets


def _trace(tokenizer, images):
    """A tokenizer as a function of images of a `tf.TensorSpec`."""
    import tensorflow as tf

    # A new one each time: one function would take a batch of known size for
    # one of any size, if it has seen that.
    function = tf.function(tokenizer, autograph=False)
    return function.get_concrete_function(images)


def tokenize(dataset, tokenizer, trace=None):
    """Token ids in place of images, on any backend.

    Args:
        dataset: `tf.data.Dataset` of `(images, labels)`, uint8
            `(B, R, R, 3)`. One of token ids is returned as it is.
        tokenizer: maps images to int32 `(B, N)`. One with `is_parallel` is
            called for one batch at a time.
        trace: function of a `tf.TensorSpec` of images to the traced tokenizer,
            for datasets that share it: tracing takes longer than hundreds of
            batches of small images. Defaults to one trace a call.

    Returns:
        `tf.data.Dataset` of `(token_ids, labels)`.
    """
    import tensorflow as tf

    if dataset.element_spec[0].dtype != tf.uint8:
        return dataset

    if keras.backend.backend() == "tensorflow":
        # Traced here, whether functions are run eagerly or not.
        trace = trace or functools.partial(_trace, tokenizer)
        function = trace(dataset.element_spec[0])

    def tokenize_batch(images, labels):
        if keras.backend.backend() == "tensorflow":
            return function(images), labels
        # Other backends cannot be traced into tf.data.
        token_ids = tf.numpy_function(
            lambda x: keras.ops.convert_to_numpy(tokenizer(x)),
            [images],
            tf.int32,
        )
        shape = tokenizer.compute_output_shape(images.shape)
        return tf.ensure_shape(token_ids, shape), labels

    is_parallel = getattr(tokenizer, "is_parallel", False)
    calls = 1 if is_parallel else os.cpu_count()
    return dataset.map(tokenize_batch, calls).prefetch(2)
