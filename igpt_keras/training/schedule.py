from igpt_keras import presets

# Steps. Validation is a small share of so many, and a spike not far behind.
_LONGEST_PERIOD = 10_000


def pretraining_schedule(
    preset,
    objective,
    input_resolution,
    images,
    steps=None,
    batch_size=None,
    learning_rate=None,
    warmup_steps=None,
    period=None,
    pictures=None,
    probe_every=None,
):
    """How long and how fast to pretrain, the paper's way where nothing is said.

    Args:
        preset: key of `presets.IGPT`.
        objective: `"autoregressive"` or `"bert"`.
        input_resolution: int. Side of the images.
        images: int. Training images.
        steps: int. Training steps. Defaults to the preset's.
        batch_size: int. Defaults to the preset's.
        learning_rate: float. The peak. Defaults to Table 5, see
            `presets.choose_learning_rate`.
        warmup_steps: int. Defaults to an epoch (section 3.4), but at most a
            tenth of the steps.
        period: int. Steps between validations. Defaults to an eighth of the
            steps or fewer, see `choose_period`.
        pictures: int. Steps between pictures, a multiple of the period; 0 for
            none. Defaults to those between probes.
        probe_every: int. Steps between probes, a multiple of the period.
            Defaults to the period, or to an eighth of the steps if that is not
            given.

    Returns:
        dict of these seven.

    Raises:
        ValueError: for numbers that do not fit together.
    """
    steps = steps or presets.PRETRAINING[preset]["steps"]
    batch_size = batch_size or presets.PRETRAINING[preset]["batch_size"]
    if learning_rate is None:
        learning_rate, _ = presets.choose_learning_rate(
            preset, objective, input_resolution
        )
    if warmup_steps is None:
        warmup_steps = min(max(1, images // batch_size), steps // 10)
    if warmup_steps >= steps:
        raise ValueError(
            f"warmup_steps={warmup_steps} leaves nothing of steps={steps}. "
            "Warm up for fewer steps."
        )
    probe_every = probe_every or period or _eighth(steps)
    period = choose_period(steps, period)
    pictures = probe_every if pictures is None else pictures
    for name, value in (("pictures", pictures), ("probe_every", probe_every)):
        if value % period:
            raise ValueError(
                f"{name}={value} is no multiple of period={period}: that is "
                "done where a period ends. Choose one."
            )
    return {
        "steps": steps,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "warmup_steps": warmup_steps,
        "period": period,
        "pictures": pictures,
        "probe_every": probe_every,
    }


def finetuning_schedule(
    images,
    steps=None,
    batch_size=None,
    period=None,
    patience=None,
    fold_validation=False,
):
    """How long to fine-tune, where nothing is said.

    Section 3.4: batches as in pretraining, and no schedule of the learning
    rate; validation accuracy says when to stop, so that `steps` are the most.

    Args:
        images: int. Training images.
        steps: int. Defaults to 40 periods.
        batch_size: int. Defaults to 128, or to the images if there are fewer.
        period: int. Steps between validations. Defaults to an epoch, but at
            least to 20 steps; an eighth of `steps` if these are given.
        patience: int. Periods without a better validation accuracy after which
            training stops. Defaults to 5.
        fold_validation: bool. Whether validation images are trained on, so
            that nothing stops. Defaults to `False`.

    Returns:
        dict of `steps`, `batch_size`, `period` and `patience`.

    Raises:
        ValueError: if `period` does not divide the steps.
    """
    batch_size = batch_size or min(128, images)
    if steps is None:
        period = period or max(20, images // batch_size)
        steps = 40 * period
    return {
        "steps": steps,
        "batch_size": batch_size,
        "period": choose_period(steps, period),
        "patience": None if fold_validation else patience or 5,
    }


def choose_period(steps, period=None, most=8):
    """Steps between two validations.

    Args:
        steps: int. Training steps in all.
        period: int, which must divide them. Defaults to `None`: chosen here, at
            most 10,000 where that divides them.
        most: int. Periods to divide the steps into by default, or fewer; more
            in a long run. Defaults to 8.

    Raises:
        ValueError: if `period` does not divide the steps.
    """
    if period is None:
        part = _eighth(steps, most)
        least = -(-part // _LONGEST_PERIOD)
        parts = (k for k in range(least, 10 * least) if part % k == 0)
        return part // next(parts, 1)
    if steps % period:
        periods = max(1, round(steps / period))
        raise ValueError(
            f"period={period} does not divide steps={steps}. Train for "
            f"{periods * period} steps, or choose another period."
        )
    return period


def _eighth(steps, most=8):
    """Steps of one of at most so many equal parts."""
    return steps // next(k for k in range(most, 0, -1) if steps % k == 0)


def milestone_epochs(steps, period, milestones=None):
    """Epochs whose checkpoints are kept, to compare them afterwards.

    Args:
        steps: int. Training steps in all.
        period: int. Steps of an epoch.
        milestones: steps, ints or what `int` takes; the first checkpoint at or
            after each is kept. Defaults to powers of two of a thousand steps,
            as in Figure 3.

    Returns:
        Sorted tuple of int, from 1.

    Raises:
        ValueError: for milestones that are not in 1 to `steps`.
    """
    if milestones is None:
        powers = range((steps // 1000).bit_length())
        milestones = [1000 * 2**power for power in powers]
    milestones = [int(step) for step in milestones]
    wrong = [step for step in milestones if not 1 <= step <= steps]
    if wrong:
        raise ValueError(
            f"Milestone {wrong[0]} is no step of 1 to {steps}. Leave it out."
        )
    return tuple(sorted({-(-step // period) for step in milestones}))
