import keras

from igpt_keras.terminal import verbosity


def layer_bar(num_layers, verbose):
    """A progress bar over layers, on a terminal alone.

    In lines it would be one a probe, which says nothing.
    """
    return keras.utils.Progbar(
        num_layers, unit_name="layer", verbose=int(verbosity(verbose) == 1)
    )
