import importlib
import platform

import keras
import numpy as np

__version__ = "0.2.0"


def software_versions():
    """Versions of what computes here.

    Returns:
        dict of str by name: `igpt_keras`, `Python`, `Keras`, the backend by
        the name that Keras has for it, and `NumPy`.
    """
    backend = keras.backend.backend()
    return {
        "igpt_keras": __version__,
        "Python": platform.python_version(),
        "Keras": keras.__version__,
        # Wheels of TensorFlow have several names; the module has one.
        backend: importlib.import_module(backend).__version__,
        "NumPy": np.__version__,
    }
