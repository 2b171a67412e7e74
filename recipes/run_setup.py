"""What the training programs have in common."""

import contextlib
import dataclasses
import json

import interrupts
import keras
import reporting


def strategy_scope(settings):
    """Where the model is built: under `tf.distribute`, or not.

    Args:
        settings: with `strategy` and `batch_size`.
    """
    if settings.strategy == "none":
        return contextlib.nullcontext()
    if keras.backend.backend() != "tensorflow":
        raise ValueError(
            "--strategy=mirrored is tf.distribute and needs the TensorFlow "
            f"backend, this is {keras.backend.backend()}."
        )
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy()
    replicas = strategy.num_replicas_in_sync
    if settings.batch_size % replicas:
        down = settings.batch_size // replicas * replicas
        raise ValueError(
            f"batch_size={settings.batch_size} does not divide among "
            f"{replicas} replicas; use {down or replicas} or "
            f"{down + replicas}."
        )
    return strategy.scope()


def make_run_dir(run_dir):
    """Creates a directory, or makes sure that it can be written to."""
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        probe = run_dir / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ValueError(f"--run_dir cannot be written: {error}.") from error


def check_run_dir(settings, run_dir, fingerprint):
    """Creates `run_dir`, or makes sure it holds this very run.

    Args:
        settings: dataclass, which goes to `config.json`.
        run_dir: `pathlib.Path`.
        fingerprint: of the training images, which goes there too.

    Returns:
        bool. Whether there are checkpoints to continue from.
    """
    make_run_dir(run_dir)
    path = run_dir / "config.json"
    config = dataclasses.asdict(settings)
    del config["run_dir"]
    config["images"] = fingerprint
    started = any(run_dir.rglob("checkpoints/epoch_*.npz"))
    if started and path.is_file():
        saved = json.loads(path.read_text())
        other_images = saved.pop("images", None) != config.pop("images")
        changed = [
            f"{key}: {saved.get(key)!r} then, {config.get(key)!r} here"
            for key in sorted(set(saved) | set(config))
            if saved.get(key) != config.get(key)
        ]
        if changed:
            raise ValueError(
                f"{run_dir} holds a run with other settings ("
                + "; ".join(changed)
                + "). Use the same flags to continue it, or another --run_dir."
            )
        if other_images:
            raise ValueError(
                f"{run_dir} holds a run on other training images: the dataset "
                "changed. Put it back to continue, or choose another "
                "--run_dir."
            )
    else:
        reporting.write_json(path, config)
    return started


def resolve_period(values, most):
    """Steps between two checkpoints, from flags.

    Args:
        values: dict with `steps`, and `period` or `None` there.
        most: int. Periods to divide the steps into by default, or fewer.
    """
    steps, period = values["steps"], values["period"]
    if period is None:
        periods = next(k for k in range(most, 0, -1) if steps % k == 0)
        return steps // periods
    if steps % period:
        periods = max(1, round(steps / period))
        raise ValueError(
            f"period={period} does not divide steps={steps}. Train for "
            f"{periods * period} steps, or choose another period."
        )
    return period


def fit(model, dataset, settings, checkpoint, epoch, callbacks, **arguments):
    """`model.fit` from an epoch, which is a period, to the end.

    Args:
        model: compiled Keras model.
        dataset: endless, from the first batch of `epoch`.
        settings: with `steps` and `period`.
        checkpoint: `TrainingCheckpoint`.
        epoch: int. Epochs that are done.
        callbacks: others, which come before the checkpoint.
        **arguments: of `model.fit`.

    Raises:
        FloatingPointError: if the loss is not finite.
    """
    try:
        with interrupts.deferred():
            model.fit(
                dataset,
                steps_per_epoch=settings.period,
                initial_epoch=epoch,
                epochs=settings.steps // settings.period,
                shuffle=False,
                callbacks=[
                    keras.callbacks.TerminateOnNaN(raise_error=True),
                    *callbacks,
                    checkpoint,
                    _CheckInterrupts(),
                ],
                **arguments,
            )
    except (RuntimeError, FloatingPointError) as error:
        # TerminateOnNaN's, which says no more than that, or the checkpoint's.
        if isinstance(error, RuntimeError) and "NaN" not in str(error):
            raise
        raise FloatingPointError(
            "Training diverged: the loss is not finite. Checkpoints in "
            f"{checkpoint.directory} are from before. Start again in another "
            "--run_dir with a lower --learning_rate."
        ) from error


class _CheckInterrupts(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        interrupts.check()

    def on_test_batch_end(self, batch, logs=None):
        interrupts.check()
