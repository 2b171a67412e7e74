from igpt_keras.conversion import huggingface_format
from igpt_keras.conversion.load_huggingface import load_huggingface
from igpt_keras.conversion.load_huggingface import load_huggingface_palette
from igpt_keras.conversion.load_openai_checkpoint import load_openai_checkpoint
from igpt_keras.models import preset_directory
from igpt_keras.models.igpt import IGPT
from igpt_keras.models.igpt_classifier import IGPTClassifier
from igpt_keras.presets import PRETRAINED
from igpt_keras.presets import preset_path
from igpt_keras.storage.atomic_directory import read_whole
from igpt_keras.tokenizers.open_tokenizer import open_tokenizer
from igpt_keras.tokenizers.palette_tokenizer import PaletteTokenizer

FORMATS = ("openai", "huggingface", "keras")


def weight_format(path):
    """Which of `FORMATS` a path holds.

    Args:
        path: a directory of `save_to_preset` or of Hugging Face, a run's
            directory with the former as `preset` in it, or an OpenAI
            checkpoint: its prefix, `.index` file or directory; or a name of
            `igpt_keras.presets.PRETRAINED`.

    Raises:
        ValueError: if there is none of them, or the run left no model yet.
    """
    path = _preset_of_run(preset_path(path))
    if (path / huggingface_format.CONFIG).is_file():
        is_ours = preset_directory.is_preset(path)
        return "keras" if is_ours else "huggingface"
    index = path.with_name(path.name + ".index")
    if path.is_dir() or path.suffix == ".index" or index.is_file():
        return "openai"
    raise ValueError(
        f"No model at {path}. Pass a directory of `save_to_preset` or of "
        "Hugging Face, that of a run, the prefix, .index file or directory "
        "of an OpenAI checkpoint, or the name of one that comes with "
        f"igpt_keras: {', '.join(PRETRAINED)}."
    )


def _preset_of_run(path):
    """The preset in a run's directory; any other path as it is."""
    if preset_directory.is_preset(path):
        return path
    if preset_directory.is_preset(path / "preset"):
        return path / "preset"
    has_config = (path / huggingface_format.CONFIG).is_file()
    if has_config and (path / "checkpoints").is_dir():
        raise ValueError(
            f"{path} holds a run that left no model yet: it writes preset/ "
            "after its first validation. Give its command again to continue "
            "it."
        )
    return path


def locate_weights(path):
    """The format of weights, and where they are.

    Args:
        path: as `open_weights` takes it.

    Returns:
        `(kind, path)`: one of `FORMATS`, and a `pathlib.Path`.

    Raises:
        ValueError: if there are none, or in another format than is said.
    """
    said, colon, rest = str(path).partition(":")
    if not colon or said not in FORMATS:
        said, rest = None, path
    path = _preset_of_run(preset_path(rest))
    kind = weight_format(path)
    if said not in (None, kind):
        raise ValueError(
            f"{path} holds weights in the format {kind!r}, not {said!r}. Leave "
            f"out {said}:."
        )
    return kind, path


def open_weights(path, palette=None, verbose=0):
    """Opens weights of any of the three formats, and their tokenizer.

    Of a run that still goes on these are its best so far, by validation.

    Args:
        path: as `weight_format` takes it; `openai:`, `huggingface:` or
            `keras:` before it says that it has to be that.
        palette: path of a palette, for a `PaletteTokenizer` in place of the
            one that is there. Defaults to none.
        verbose: 0 or 1. Whether to show a progress bar. Defaults to 0.

    Returns:
        `(model, tokenizer)`: an `IGPT`, or an `IGPTClassifier` if there is a
        class head, and its tokenizer, or `None` if there is none.

    Raises:
        ValueError: as the format's own loader, and if the path holds another
            format than is said.
    """
    kind, path = locate_weights(path)
    if palette is not None:
        palette = PaletteTokenizer(palette)
    tokenizer = None
    if kind == "openai":
        model = load_openai_checkpoint(path, verbose=verbose)
    elif kind == "huggingface":
        if (path / huggingface_format.PROCESSOR).is_file():
            tokenizer = load_huggingface_palette(path)
        model = load_huggingface(path, verbose=verbose)
    else:
        model, tokenizer = read_whole(
            path, preset_directory.CONFIG, lambda: _open_preset(path)
        )
    return model, palette or tokenizer


def _open_preset(path):
    tokenizer = open_tokenizer(path)
    has_head = "classifier" in preset_directory.read_manifest(path)
    model_class = IGPTClassifier if has_head else IGPT
    return model_class.from_preset(path), tokenizer


def check_tokenizer(tokenizer, model):
    """Raises a `ValueError` unless a model can take a tokenizer's tokens.

    Args:
        tokenizer: what `open_weights` gives, so `None` if there is none.
        model: an `IGPT`.
    """
    if tokenizer is None:
        raise ValueError(
            "The model has no tokenizer with it to tokenize images with. Pass "
            "--palette; OpenAI's is fetched by `python "
            "tools/download_openai.py --palette`."
        )
    if tokenizer.vocabulary_size != model.vocabulary_size:
        raise ValueError(
            f"The tokenizer has {tokenizer.vocabulary_size} tokens and the "
            f"model a vocabulary of {model.vocabulary_size}. Pass the palette "
            "that the model was trained with."
        )
