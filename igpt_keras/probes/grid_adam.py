import keras
import numpy as np
from keras import ops


class GridAdam(keras.optimizers.Adam):
    """Adam for variables whose first axis are models of different rates.

    Adam moves each entry by itself, so that each model moves as if it were
    trained alone with its rate.

    Args:
        rates: sequence of float, the peak rates, one for each entry of the
            first axis of every variable.
        learning_rate: float or schedule that rates are multiplied by.
            Defaults to 1.
        **kwargs: `keras.optimizers.Adam`'s other arguments.
    """

    def __init__(self, rates, learning_rate=1.0, name="grid_adam", **kwargs):
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.rates = np.array(rates, "float32")

    def update_step(self, gradient, variable, learning_rate):
        shape = (-1,) + (1,) * (len(variable.shape) - 1)
        rates = ops.cast(learning_rate, "float32") * self.rates.reshape(shape)
        super().update_step(gradient, variable, rates)

    def get_config(self):
        return {**super().get_config(), "rates": self.rates.tolist()}
