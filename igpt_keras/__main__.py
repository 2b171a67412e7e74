"""What is installed, what it computes on, and where to start.

python -m igpt_keras
"""

import importlib.util
import pathlib
import sys

import keras

from igpt_keras.version import software_versions

# What parts of the package need that importing it does not.
_PARTS = {
    "tensorflow": "igpt_keras.data, TensorBoard logs, OpenAI's checkpoints",
    "tensorflow_datasets": "datasets of TFDS, such as cifar10",
}
_ROOT = pathlib.Path(__file__).parent.parent


def describe_installation():
    """Versions, devices, what is missing, and where to start, as text."""
    backend = keras.backend.backend()
    found = software_versions()
    found["backend"] = f"{backend} {found.pop(backend)}"
    found["devices"] = ", ".join(keras.distribution.list_devices())
    lines = [f"{name:12}{value}" for name, value in found.items()]
    for module, needs in _PARTS.items():
        if not _is_installed(module):
            package = module.replace("_", "-")
            lines.append(
                f"{module} is not installed. These need it: {needs}. "
                f"`pip install {package}` installs it."
            )
    where = "of its source"
    if (_ROOT / "recipes").is_dir():
        where = f"of {_ROOT}"
    return "\n".join(
        [
            *lines,
            "",
            f"Where to start, in the directory {where}:",
            "  recipes/pretrain.py --help    to train on your pictures",
            "  docs/first_run.md             the first run, step by step",
            "  README.md                     all recipes",
        ]
    )


def _is_installed(module):
    """Whether a package can be imported, without importing it."""
    if module in sys.modules:
        # None stands for one that may not be.
        return sys.modules[module] is not None
    return importlib.util.find_spec(module) is not None


if __name__ == "__main__":
    sys.stdout.write(describe_installation() + "\n")
