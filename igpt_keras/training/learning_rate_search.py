import math


def search_learning_rate(learning_rates, trial, mode="min"):
    """The paper's search (section 3.4): stops at the first local optimum.

    Args:
        learning_rates: sequence of float, in the order to try: descending.
        trial: function of a learning rate to a float, what training with it
            reached, or to `None` or NaN if it diverged, which is worse than
            anything.
        mode: `"min"` if lower is better, or `"max"`. Defaults to `"min"`.

    Returns:
        `(best, trials)`: the best learning rate, `None` if all diverged, and a
        list of a dict a trial: `learning_rate` and `value`, `None` for NaN.

    Example:
    >>> losses = {0.01: None, 0.003: 2.3, 0.001: 2.1, 0.0003: 2.2, 0.0001: 2.0}
    >>> best, trials = search_learning_rate(losses, losses.get)
    >>> best, len(trials)
    (0.001, 4)
    """
    sign = 1 if mode == "min" else -1
    best, best_value, trials = None, math.inf, []
    for learning_rate in learning_rates:
        value = trial(learning_rate)
        if value is not None and math.isnan(value):
            value = None
        trials.append({"learning_rate": learning_rate, "value": value})
        signed = math.inf if value is None else sign * value
        if signed < best_value:
            best, best_value = learning_rate, signed
        elif signed > best_value:
            break
    return best, trials
