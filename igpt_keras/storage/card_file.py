from igpt_keras.storage.user_path import user_path

# Where Hugging Face's hub looks for it.
CARD = "README.md"
# By which a card that was written here is known from a text of the user's.
MARK = "library_name: igpt_keras"


def replaceable_card(directory):
    """Names of the files of a preset directory that are its model card.

    A card describes the weights beside it, and goes when they are replaced. A
    README.md that was not written here is not ours to replace.

    Args:
        directory: path, of a directory or of none.

    Returns:
        tuple of str, empty or `CARD` alone.
    """
    path = user_path(directory) / CARD
    if not path.is_file():
        return ()
    head = path.read_text(errors="replace").splitlines()[:20]
    return (CARD,) if MARK in head else ()
