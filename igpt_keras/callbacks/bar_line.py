import sys


def end_bar_line(callback, epoch):
    """Starts a new line if Keras's progress bar is still on this one.

    It ends its line after all other callbacks of an epoch.

    Args:
        callback: Keras callback that is about to print.
        epoch: int. The epoch that ends.
    """
    params = callback.params
    # All callbacks of a fit have this dict in common.
    if params.get("verbose") in (1, "auto") and params.get("ended") != epoch:
        params["ended"] = epoch
        sys.stdout.write("\n")
