import pathlib

from igpt_keras.tokenizers import vq_vae_directory
from igpt_keras.tokenizers.palette_tokenizer import PaletteTokenizer
from igpt_keras.tokenizers.vq_vae_tokenizer import VQVAETokenizer


def open_tokenizer(directory):
    """Opens the tokenizer in a preset directory.

    Args:
        directory: path of what `save_to_preset` wrote.

    Returns:
        A `PaletteTokenizer` or `VQVAETokenizer`, `None` if there is neither.

    Raises:
        ValueError: if it is damaged.
    """
    directory = pathlib.Path(directory).expanduser()
    if (directory / vq_vae_directory.CONFIG).is_file():
        return VQVAETokenizer.from_preset(directory)
    if (directory / "palette.npy").is_file():
        return PaletteTokenizer.from_preset(directory)
    return None
