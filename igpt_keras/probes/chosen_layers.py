import numpy as np


def tied_layers(accuracy, num_images):
    """Layers that these images cannot tell from the best one.

    Args:
        accuracy: float array of fractions, of each layer.
        num_images: int. Images that it was measured on.

    Returns:
        list of int: those within a standard error of the highest, itself
        included.
    """
    best = accuracy.max()
    error = standard_error(best, num_images)
    return np.flatnonzero(accuracy >= best - error).tolist()


def standard_error(accuracy, num_images):
    """Binomial standard error of an accuracy, as a fraction."""
    return float(np.sqrt(accuracy * (1 - accuracy) / num_images))
