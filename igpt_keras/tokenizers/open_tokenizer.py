from igpt_keras.presets import preset_path
from igpt_keras.tokenizers import vq_vae_directory
from igpt_keras.tokenizers.palette_tokenizer import PaletteTokenizer
from igpt_keras.tokenizers.vq_vae_tokenizer import VQVAETokenizer


def open_tokenizer(directory):
    """Opens the tokenizer in a directory.

    Args:
        directory: path of what `save_to_preset` or `save_copy` wrote: a preset,
            a run or a token cache; or a name of `presets.PRETRAINED`.

    Returns:
        A `PaletteTokenizer` or `VQVAETokenizer`, `None` if there is neither.

    Raises:
        ValueError: if it is damaged.
    """
    directory = preset_path(directory)
    for path in (directory, directory / "vq_vae"):
        if (path / vq_vae_directory.CONFIG).is_file():
            return VQVAETokenizer.from_preset(path)
    if (directory / "palette.npy").is_file():
        return PaletteTokenizer.from_preset(directory)
    return None
