from igpt_keras.storage.user_path import user_path


def make_writable_directory(path, name):
    """Creates a directory, or makes sure that it can be written to.

    Before the work whose results are to go there.

    Args:
        path: path of the directory.
        name: str. What the user knows it as, such as `--run_dir`.

    Returns:
        `pathlib.Path` of it.

    Raises:
        ValueError: if it cannot be written.
    """
    path = user_path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(
            f"{name} cannot be written: {error}. Choose another directory."
        ) from error
    return path
