import contextlib
import os
import pathlib
import shutil
import tempfile


@contextlib.contextmanager
def atomic_directory(directory):
    """Fills a directory under another name, and renames it when it is whole.

    After an error in the `with` block, a full disk for example, `directory` is
    what it was before.

    Args:
        directory: path to create, or to replace.

    Yields:
        `pathlib.Path` of an empty directory beside it, to write into.
    """
    directory = pathlib.Path(directory)
    directory.parent.mkdir(parents=True, exist_ok=True)
    staged = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent)
    )
    try:
        yield staged
        staged.chmod(0o755)
        _replace(staged, directory)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _replace(staged, directory):
    if not directory.exists():
        os.replace(staged, directory)
        return
    # A directory that is not empty cannot be replaced in one call.
    aside = pathlib.Path(
        tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent)
    )
    os.replace(directory, aside / "old")
    try:
        os.replace(staged, directory)
    except OSError:
        os.replace(aside / "old", directory)
        raise
    finally:
        shutil.rmtree(aside)
