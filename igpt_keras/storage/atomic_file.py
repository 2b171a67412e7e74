import contextlib
import os
import pathlib
import uuid


@contextlib.contextmanager
def atomic_file(path, shared=False):
    """Writes a file whole or not at all.

    It is filled under a hidden name beside `path`, brought to the disk, and
    renamed. Whatever stops the `with` block, `path` is what it was before.
    What a killed process left is written over by the next one.

    Args:
        path: path of the file. Its directory must be there.
        shared: bool. Whether several processes may write the file at the same
            time; each then fills one of its own. Defaults to `False`.

    Yields:
        A binary file object; its `name` is the hidden one.

    Raises:
        OSError: if it cannot be written.
    """
    path = pathlib.Path(path)
    mark = f".{uuid.uuid4().hex}" if shared else ""
    staged = path.with_name(f".{path.name}{mark}.tmp")
    try:
        with open(staged, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(staged, path)
    finally:
        staged.unlink(missing_ok=True)
