import numpy as np

from igpt_keras.data.mixture_sources import mixture_sources
from igpt_keras.data.open_split import default_resolution
from igpt_keras.storage.user_path import user_path
from igpt_keras.tokenizers.open_tokenizer import open_tokenizer
from igpt_keras.tokenizers.palette_tokenizer import PaletteTokenizer
from igpt_keras.tokenizers.vq_vae_tokenizer import VQVAETokenizer

# Training images that a palette is fitted on, at most.
PALETTE_IMAGES = 50_000


def open_run_tokenizer(
    run,
    dataset,
    palette=None,
    tokenizer=None,
    input_resolution=None,
    vocabulary_size=512,
):
    """Opens the tokenizer that a run is given, and says what follows from it.

    A token cache brings its own where none is named. A run that goes on has a
    copy of its own, wherever the original is by now.

    Args:
        run: `RunDirectory`.
        dataset: str, as `image_dataset` takes it.
        palette: path of a palette, or `None`.
        tokenizer: `"vq_vae:DIRECTORY"`, or `None`.
        input_resolution: int. Side of the images. Defaults to the VQ-VAE's, or
            else to the dataset's own.
        vocabulary_size: int. Colours of a palette that is still to be fitted.

    Returns:
        `(opened, values)`: the tokenizer, or `None` where none is given; and a
        dict of `palette`, `tokenizer`, `input_resolution`, `model_resolution`
        and `vocabulary_size`, as they are now.

    Raises:
        ValueError: if both are given, and if it is not there, damaged, or of
            another resolution.
    """
    if None not in (palette, tokenizer):
        raise ValueError(
            "--palette and --tokenizer are two tokenizers. Pass one of them."
        )
    of_tokens = dataset.startswith("tokens:") and not mixture_sources(dataset)
    if palette is tokenizer is None and of_tokens:
        directory = user_path(dataset.removeprefix("tokens:"))
        if (directory / "vq_vae").is_dir():
            tokenizer = f"vq_vae:{directory / 'vq_vae'}"
        else:
            palette = str(directory / "palette.npy")
    opened = None
    if palette is not None or tokenizer is not None:
        opened = _own_copy(run)
        if opened is None and tokenizer is not None:
            opened = open_vq_vae(tokenizer, input_resolution)
        elif opened is None:
            opened = PaletteTokenizer(palette)
        vocabulary_size = opened.vocabulary_size
    if tokenizer is not None:
        input_resolution = opened.input_resolution
        model_resolution = opened.model_resolution
    else:
        input_resolution = input_resolution or default_resolution(dataset)
        model_resolution = input_resolution
    return opened, {
        "palette": palette,
        "tokenizer": tokenizer,
        "input_resolution": input_resolution,
        "model_resolution": model_resolution,
        "vocabulary_size": vocabulary_size,
    }


def open_vq_vae(tokenizer, input_resolution=None):
    """The `VQVAETokenizer` that `"vq_vae:DIRECTORY"` names.

    Args:
        tokenizer: that str.
        input_resolution: int, what the images will be, or `None`.

    Raises:
        ValueError: if it names none, or one of another resolution.
    """
    kind, _, directory = tokenizer.partition(":")
    if kind != "vq_vae" or not directory:
        raise ValueError(
            f"--tokenizer={tokenizer} is unknown. Pass vq_vae:DIRECTORY, a "
            "preset that train_vq_vae.py made."
        )
    opened = VQVAETokenizer.from_preset(user_path(directory))
    side = opened.input_resolution
    if input_resolution not in (None, side):
        raise ValueError(
            f"{tokenizer} is for images of {side}x{side}, and "
            f"--input_resolution={input_resolution}. Leave it out."
        )
    return opened


def keep_run_tokenizer(
    run, train, tokenizer=None, vocabulary_size=512, batch_size=128, seed=0
):
    """The tokenizer of a run, of which it keeps a copy.

    Args:
        run: `RunDirectory` that has begun.
        train: `Split` or `Mixture` that the run trains on.
        tokenizer: the tokenizer. Defaults to a palette of the training images,
            fitted once.
        vocabulary_size: int. Colours of that, at most. Defaults to 512.
        batch_size: int. Images that are read at a time. Defaults to 128.
        seed: int. Of k-means. Defaults to 0.

    Returns:
        The tokenizer.

    Raises:
        ValueError: if `train` holds tokens, of another tokenizer or of one
            that is not given.
    """
    copy = _own_copy(run)
    if tokenizer is None:
        tokenizer = copy
    if tokenizer is None:
        if train.is_tokens:
            raise ValueError(
                f"{train.name} holds tokens: pass the --palette that they were "
                "made with, so that they can be seen."
            )
        batches = -(-PALETTE_IMAGES // batch_size)
        dataset = train.sample(batch_size).take(batches)
        images = np.concatenate([x for x, _ in dataset.as_numpy_iterator()])
        tokenizer = PaletteTokenizer.fit(images, vocabulary_size, seed)
    train.check_tokenizer(tokenizer)
    if copy is None and run.writes:
        tokenizer.save_copy(run.path)
    return tokenizer


def _own_copy(run):
    """The tokenizer that a run that goes on has kept, or `None`."""
    return open_tokenizer(run.path) if run.started else None
