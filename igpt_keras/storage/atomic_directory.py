import contextlib
import ctypes
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def atomic_directory(directory, owned):
    """Fills a directory under another name, and swaps it in when it is whole.

    Whatever stops the `with` block, a full disk for example, `directory` is
    what it was before. On Linux the swap itself is one system call.

    Args:
        directory: path to create, or to replace.
        owned: names of the files that may be replaced.

    Yields:
        `pathlib.Path` of an empty directory beside it, to write into.

    Raises:
        ValueError: if `directory` holds anything that is not `owned`.
    """
    # A symbolic link stays one.
    directory = pathlib.Path(directory).resolve()
    if directory.exists() and not directory.is_dir():
        raise ValueError(f"{directory} is a file. Choose another directory.")
    if directory.is_dir():
        others = sorted({p.name for p in directory.iterdir()} - set(owned))
        if others:
            raise ValueError(
                f"{directory} holds other files ({', '.join(others[:5])}), "
                "which would be lost. Choose another directory."
            )
    directory.parent.mkdir(parents=True, exist_ok=True)
    staged = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent)
    )
    try:
        yield staged
        mask = os.umask(0)
        os.umask(mask)
        for file in staged.iterdir():
            # Some libraries let the owner alone read what they write.
            file.chmod(0o666 & ~mask)
            with open(file, "rb") as opened:
                os.fsync(opened.fileno())
        staged.chmod(0o777 & ~mask)
        if directory.exists():
            _exchange(staged, directory)
        else:
            os.replace(staged, directory)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def read_whole(directory, name, read):
    """What `read()` makes of a directory that may be swapped meanwhile.

    Read again as long as it was: some files would be of before and others of
    after, or gone.

    Args:
        directory: path that `atomic_directory` writes.
        name: str. A file that is always in it.
        read: function without arguments.

    Returns:
        What it returns.

    Raises:
        Exception: whatever `read` raises on a directory that stayed.
    """
    while True:
        before = _identity(directory / name)
        try:
            found = read()
        except Exception:
            # Whatever a library makes of a file that goes.
            if _identity(directory / name) == before:
                raise
            continue
        if _identity(directory / name) == before:
            return found


def _identity(path):
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _exchange(staged, directory):
    """Swaps two directories."""
    at_cwd, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    paths = os.fsencode(staged), os.fsencode(directory)
    with contextlib.suppress(AttributeError):  # Not on Linux.
        renameat2 = ctypes.CDLL(None).renameat2
        if renameat2(at_cwd, paths[0], at_cwd, paths[1], exchange) == 0:
            return
    # Other systems, and file systems without it: two renames.
    old = staged.with_name(f"{staged.name}-old")
    os.replace(directory, old)
    try:
        os.replace(staged, directory)
    except BaseException:
        os.replace(old, directory)
        raise
    shutil.rmtree(old)
