"""The data of a pretraining run: token ids from images, and masks."""

import dataclasses
import os

import keras
import numpy as np

import igpt_keras


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """Images of a split, once in order: as arrays, for probes, for the loss."""

    images: np.ndarray
    labels: np.ndarray
    tokens: object
    inputs: object


def evaluation_set(settings, tokenizer, split, limit=None):
    if limit is None:
        limit = settings.evaluation_images
    dataset = image_dataset(settings, split)
    count = len(open_split(settings, split).labels)
    if limit is not None and limit < count:
        import tensorflow as tf

        dataset = dataset.unbatch().take(limit).batch(settings.batch_size)
        # Keras warns of a dataset that ends without having said so.
        batches = -(-limit // settings.batch_size)
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(batches)
        )
    batches, labels = zip(*dataset.as_numpy_iterator())
    if batches[0].ndim == 2:
        batches = [
            keras.ops.convert_to_numpy(tokenizer.detokenize(token_ids))
            for token_ids in batches
        ]
    images, labels = np.concatenate(batches), np.concatenate(labels)
    tokens = tokenize(dataset, tokenizer).cache()
    return EvaluationSet(images, labels, tokens, _inputs(tokens, settings))


def training_set(settings, tokenizer, start_step):
    dataset = image_dataset(
        settings,
        "train",
        training=True,
        seed=settings.seed,
        start_step=start_step,
        fold_validation=settings.fold_validation,
    )
    return _inputs(tokenize(dataset, tokenizer), settings, start_step)


def tokenize(dataset, tokenizer):
    """Token ids in place of images, on any backend."""
    import tensorflow as tf

    if dataset.element_spec[0].dtype != tf.uint8:
        return dataset  # Tokens already.

    def tokenize_batch(images, labels):
        if keras.backend.backend() == "tensorflow":
            return tokenizer(images), labels
        # Other backends cannot be traced into tf.data.
        token_ids = tf.numpy_function(
            lambda x: keras.ops.convert_to_numpy(tokenizer(x)),
            [images],
            tf.int32,
        )
        shape = tokenizer.compute_output_shape(images.shape)
        return tf.ensure_shape(token_ids, shape), labels

    # A VQ-VAE fills all cores by itself, and much memory.
    is_palette = isinstance(tokenizer, igpt_keras.PaletteTokenizer)
    calls = os.cpu_count() if is_palette else 1
    return dataset.map(tokenize_batch, calls).prefetch(2)


def _inputs(tokens, settings, start_step=0):
    if settings.objective == "bert":
        return igpt_keras.data.mask_tokens(
            tokens, settings.mask_rate, settings.seed, start_step
        )
    return tokens.map(lambda token_ids, _: (token_ids, token_ids))


def print_skipped(opened):
    """Lists the pictures that a split leaves out."""
    if opened.skipped:
        print(
            f"Left out {len(opened.skipped)} pictures:",
            *opened.skipped,
            sep="\n  ",
        )


def open_vq_vae(values):
    """The `VQVAETokenizer` that `--tokenizer` names.

    Args:
        values: dict of flags, with `tokenizer` and `input_resolution`.
    """
    kind, _, directory = values["tokenizer"].partition(":")
    if kind != "vq_vae" or not directory:
        raise ValueError(
            f"--tokenizer={values['tokenizer']} is unknown. Pass "
            "vq_vae:DIRECTORY, a preset that train_vq_vae.py made."
        )
    tokenizer = igpt_keras.VQVAETokenizer.from_preset(directory)
    side = tokenizer.input_resolution
    if values["input_resolution"] not in (None, side):
        raise ValueError(
            f"{values['tokenizer']} is for images of {side}x{side}, and "
            f"--input_resolution={values['input_resolution']}. Leave it out."
        )
    return tokenizer


def unigram_entropy(tokens, vocabulary_size):
    """Entropy of the frequencies of token ids, in nats."""
    counts = np.zeros(vocabulary_size, "int64")
    for token_ids, _ in tokens.as_numpy_iterator():
        counts += np.bincount(token_ids.ravel(), minlength=vocabulary_size)
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def read_resolution(values):
    """Side of what a dataset is read as: of images, or of a grid of tokens."""
    if values["dataset"].startswith(("npy:", "tokens:")):
        return values["model_resolution"]
    return values["input_resolution"]


def open_split(settings, split):
    return igpt_keras.data.open_split(
        settings.dataset,
        split,
        read_resolution(vars(settings)),
        data_dir=settings.data_dir,
        skip_bad_images=settings.skip_bad_images,
    )


def image_dataset(settings, split, **arguments):
    return igpt_keras.data.image_dataset(
        settings.dataset,
        split,
        read_resolution(vars(settings)),
        settings.batch_size,
        data_dir=settings.data_dir,
        skip_bad_images=settings.skip_bad_images,
        **arguments,
    )
