import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class LayerAccuracies:
    """Accuracies of something that reads each layer, and what they choose.

    Attributes:
        validation_accuracy: float array `(L + 1,)`, fractions.
        test_accuracy: float array, fractions.
        num_validation_images: int.
        num_test_images: int.
    """

    validation_accuracy: np.ndarray
    test_accuracy: np.ndarray
    num_validation_images: int
    num_test_images: int

    @property
    def chosen_layer(self):
        """int, the lowest layer with the highest validation accuracy.

        It need not have the highest test accuracy: see `tied_layers`.
        """
        return int(np.argmax(self.validation_accuracy))

    @property
    def tied_layers(self):
        """list of int, layers that validation cannot tell from the chosen one.

        Those within a standard error of its accuracy, itself included.
        """
        best = self.validation_accuracy.max()
        error = standard_error(best, self.num_validation_images)
        return np.flatnonzero(self.validation_accuracy >= best - error).tolist()


def standard_error(accuracy, num_images):
    """Binomial standard error of an accuracy, as a fraction."""
    return float(np.sqrt(accuracy * (1 - accuracy) / num_images))
