import contextlib


@contextlib.contextmanager
def directory_lock(directory):
    """Keeps other processes that ask for it from writing to a directory.

    The system lets go of it however this process ends.

    Args:
        directory: path; it is created.

    Raises:
        ValueError: if another process holds it.
    """
    import fcntl  # Not on Windows.

    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ValueError(
                f"Another process writes to {directory}. Wait until it ends, "
                "or choose another directory."
            ) from error
        yield
