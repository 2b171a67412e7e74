"""What size a training budget is best spent on."""

import numpy as np

# Coefficients of a parabola: as many sizes make one, and one more an error.
_LEAST_SIZES = 3
# Draws without a minimum, above which the ends of an interval are not known.
_MOST_LEFT_OUT = 0.05


def fit_isoflop(
    budgets, parameters, tokens, values, mode="min", draws=2000, seed=0
):
    """Compute-optimal sizes of budgets, and how they grow.

    Approach 2 of Hoffmann et al. (2022, "Training Compute-Optimal Large
    Language Models"): for each budget a parabola of the value against the
    logarithm of the parameters, whose minimum is the size to choose; then a
    line through the minima, `log N = a log C + constant`, and the same for the
    tokens to train on, which at a budget follow from the parameters.

    Intervals are of a bootstrap of residuals: the sizes were chosen, and not
    drawn, so that they stay and the values change. Residuals of all budgets on
    the line are drawn from together, each divided by `sqrt(1 - leverage)`,
    since parabolas go closer to few points than chance does (Davison and
    Hinkley, 1997, "Bootstrap Methods and their Application", section 6.2.3).
    So few do not say well how large chance is: each draw has a size of its
    own, by the chi-squared distribution of their degrees of freedom, as in
    Student's t. Minima of draws may lie outside the sizes: leaving these out
    would narrow the interval.

    Args:
        budgets: float array `(P,)` of P runs. FLOPs, equal for those of one
            budget.
        parameters: array `(P,)`.
        tokens: array `(P,)`. Tokens trained on.
        values: float array `(P,)`, such as the loss.
        mode: `"min"` if lower is better, or `"max"`. Defaults to `"min"`.
        draws: int. Defaults to 2000.
        seed: int. Of the draws. Defaults to 0.

    Returns:
        dict: `mode`; `curves`, a list of a dict a budget, from small to large;
        `parameters` and `tokens`, the lines. A curve has `budget`, `sizes`
        (how many), `coefficients` (of a parabola of log10 N, highest power
        first) and, of its optimum, `parameters`, `tokens`, `value` and
        `parameters_interval`; `reason` is `None`, or says why the curve is not
        on the lines, and then what could not be computed is `None`. A line has
        `exponent`, `intercept` (of log10 against log10), `interval` (95 %,
        `None` where it is not known), and `reason`, which says why anything is
        `None`.

    Raises:
        ValueError: for another mode, and for a size twice at a budget.
    """
    if mode not in ("min", "max"):
        raise ValueError(f"mode={mode!r} is neither 'min' nor 'max'.")
    sign = 1 if mode == "min" else -1
    runs = np.array([budgets, parameters, tokens, values], "float64")
    if len(np.unique(runs[:2], axis=1).T) < runs.shape[1]:
        raise ValueError("A budget has a size twice. Leave one of them out.")
    curves = [
        _Curve(budget, *runs[1:, runs[0] == budget], sign)
        for budget in np.unique(runs[0])
    ]
    on_line = [curve for curve in curves if curve.reason is None]
    minima = _draw_minima(on_line, draws, seed)
    found = [curve.report() for curve in curves]
    lines = {}
    for name, at in (
        ("parameters", lambda curve, minimum: minimum),
        ("tokens", lambda curve, minimum: curve.log_tokens(minimum)),
    ):
        budget = np.log10([curve.budget for curve in on_line])
        best = [at(curve, curve.minimum) for curve in on_line]
        drawn = None
        if minima is not None:
            drawn = np.array([at(c, x) for c, x in zip(on_line, minima)])
        lines[name] = _line(budget, np.array(best), drawn, draws)
    if minima is not None and minima.shape[1] >= (1 - _MOST_LEFT_OUT) * draws:
        reports = [x for x in found if x["reason"] is None]
        for report, drawn in zip(reports, minima):
            report["parameters_interval"] = _interval(10**drawn)
    return {"mode": mode, "curves": found, **lines}


class _Curve:
    """The parabola of a budget, of values times `sign`, in `log10(N)`."""

    def __init__(self, budget, parameters, tokens, values, sign):
        order = np.argsort(parameters)
        self.budget, self.sign = float(budget), sign
        self.x = np.log10(parameters[order])
        self.y = sign * values[order]
        self.tokens = np.log10(tokens[order])
        self.coefficients = self.minimum = None
        self.sizes = len(self.x)
        if self.sizes < _LEAST_SIZES:
            self.reason = (
                f"sizes trained: {self.sizes}, and a parabola needs "
                f"{_LEAST_SIZES}"
            )
            return
        # About their mean, for the sake of the numbers' condition.
        self.mean = self.x.mean()
        design = np.vander(self.x - self.mean, 3)
        self.solve = np.linalg.pinv(design)
        self.coefficients = self.solve @ self.y
        self.fitted = design @ self.coefficients
        self.leverage = np.sum(design * self.solve.T, axis=1)
        self.reason = self._why_not()

    def _why_not(self):
        best = "minimum" if self.sign == 1 else "maximum"
        if self.coefficients[0] <= 0:
            opens = "downwards" if self.sign == 1 else "upwards"
            return f"no {best}: the curve opens {opens}"
        self.minimum = float(self.minima(self.coefficients))
        if not self.x[0] <= self.minimum <= self.x[-1]:
            tried = " to ".join(f"{10**x:,.0f}" for x in self.x[[0, -1]])
            return (
                f"the {best}, at {10**self.minimum:.3g} parameters, is outside "
                f"the sizes ({tried})"
            )
        lowest = np.argmin(self.y)
        if lowest in (0, self.sizes - 1):
            # A parabola that fits badly has its vertex inside nevertheless.
            end = "largest" if lowest else "smallest"
            return f"the {end} size is the best: none beyond it is worse"
        return None

    def minima(self, coefficients):
        """log10 N at the vertex of parabolas `(..., 3)`."""
        return self.mean - coefficients[..., 1] / (2 * coefficients[..., 0])

    def log_tokens(self, x):
        """log10 of the tokens that the budget pays for at log10 N.

        Straight between two sizes, and on beyond the last ones.
        """
        left = np.clip(np.searchsorted(self.x, x) - 1, 0, len(self.x) - 2)
        slope = np.diff(self.tokens) / np.diff(self.x)
        return self.tokens[left] + (x - self.x[left]) * slope[left]

    def residuals(self):
        """As large as those of the truth would be; none if nothing is left."""
        if self.sizes == _LEAST_SIZES:
            return np.array([])
        return (self.y - self.fitted) / np.sqrt(1 - self.leverage)

    def report(self):
        """The dict of `fit_isoflop`."""
        found = {
            "budget": self.budget,
            "sizes": self.sizes,
            "coefficients": None,
            "parameters": None,
            "tokens": None,
            "value": None,
            "parameters_interval": None,
            "reason": self.reason,
        }
        if self.coefficients is not None:
            a, b, c = self.sign * self.coefficients
            powers = [a, b - 2 * a * self.mean]
            powers.append(a * self.mean**2 - b * self.mean + c)
            found["coefficients"] = [float(x) for x in powers]
        if self.reason is None:
            found["parameters"] = 10**self.minimum
            found["tokens"] = float(10 ** self.log_tokens(self.minimum))
            found["value"] = float(np.polyval(powers, self.minimum))
        return found


def _draw_minima(curves, draws, seed):
    """log10 N of the minima `(curves, draws)`, of draws in which all have one.

    `None` where there are no residuals to draw from.
    """
    pool = np.concatenate([np.array([]), *(c.residuals() for c in curves)])
    if not len(pool):
        return None
    generator = np.random.default_rng(seed)
    pool -= pool.mean()
    freedom = sum(c.sizes - _LEAST_SIZES for c in curves)
    scale = np.sqrt(freedom / generator.chisquare(freedom, (draws, 1)))
    drawn = []
    for curve in curves:
        noise = scale * generator.choice(pool, (draws, len(curve.x)))
        drawn.append((curve.fitted + noise) @ curve.solve.T)
    whole = np.all([coefficients[:, 0] > 0 for coefficients in drawn], axis=0)
    return np.array([c.minima(x[whole]) for c, x in zip(curves, drawn)])


def _line(x, y, drawn, draws):
    """A line of `fit_isoflop`, of `y` `(B,)` and draws of it `(B, draws)`."""
    found = {"exponent": None, "intercept": None, "interval": None}
    if len(x) < 2:
        few = f"budgets with an optimum: {len(x)}, and a line needs 2"
        return {**found, "reason": few}
    weights = (x - x.mean()) / np.sum((x - x.mean()) ** 2)
    exponent = float(weights @ y)
    found["exponent"] = exponent
    found["intercept"] = float(y.mean() - exponent * x.mean())
    if drawn is None:
        reason = (
            f"no interval: no budget has more than {_LEAST_SIZES} sizes, so "
            "that nothing says how large chance is"
        )
        return {**found, "reason": reason}
    left_out = 1 - drawn.shape[1] / draws
    if left_out > _MOST_LEFT_OUT:
        reason = (
            f"no interval: in {100 * left_out:.0f} % of the draws a curve has "
            "no optimum"
        )
        return {**found, "reason": reason}
    found["interval"] = _interval(weights @ drawn)
    return {**found, "reason": None}


def _interval(values):
    """Between 95 % of them."""
    return [float(x) for x in np.percentile(values, [2.5, 97.5])]
