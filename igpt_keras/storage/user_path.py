import pathlib


def user_path(path):
    """A path that a user gave, with `~` for the home directory as in a shell.

    Raises:
        ValueError: for the home directory of a user that there is not.
    """
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{path} begins with ~ and names no user's home directory. Write "
            "./~ for a file of that name."
        ) from error
