import sys

import keras

from igpt_keras.backend import num_replicas
from igpt_keras.callbacks.curve_log import CurveLog
from igpt_keras.program import interrupts
from igpt_keras.storage.directory_lock import directory_lock
from igpt_keras.terminal import verbosity


def fit(
    model,
    batches_from,
    steps,
    period,
    checkpoint,
    progress,
    callbacks=(),
    log_dir=None,
    hyperparameters=None,
    verbose=1,
    **arguments,
):
    """`model.fit` from the last checkpoint to the end.

    An epoch is a period. A run that is at its end, or out of patience, is left
    as it is. A signal stops training between two steps, where
    `program.interrupts.handled` is in force.

    Args:
        model: compiled Keras model.
        batches_from: function of a step, an int, to an endless dataset that
            begins with the batch of that step.
        steps: int. Training steps in all.
        period: int. Steps of an epoch; divides `steps`.
        checkpoint: `TrainingCheckpoint`, which the model is restored from.
        progress: `Progress` of the run.
        callbacks: others, which come first. Defaults to none.
        log_dir: directory for TensorBoard's curves. Defaults to none.
        hyperparameters: dict of JSON values, shown beside them. Defaults to
            none.
        verbose: 0 or 1. Whether to show progress. Defaults to 1.
        **arguments: of `model.fit`.

    Raises:
        FloatingPointError: if the loss is not finite.
        ValueError: if the checkpoints are of another model, or another process
            trains there.
    """
    epoch = checkpoint.restore(model)
    progress.restore(epoch)
    if epoch and verbose:
        sys.stdout.write(f"Continuing after step {epoch * period:,}.\n")
    if epoch >= steps // period or checkpoint.out_of_patience(epoch):
        return
    _check_validation(model, arguments.get("validation_data"))
    callbacks = [keras.callbacks.TerminateOnNaN(raise_error=True), *callbacks]
    if log_dir is not None:
        callbacks += [CurveLog(log_dir, hyperparameters)]
    callbacks += [progress, checkpoint, _CheckInterrupts()]
    try:
        with interrupts.deferred(), directory_lock(checkpoint.directory):
            model.fit(
                batches_from(epoch * period),
                steps_per_epoch=period,
                initial_epoch=epoch,
                epochs=steps // period,
                shuffle=False,
                callbacks=callbacks,
                verbose=verbosity(verbose),
                **arguments,
            )
    except (RuntimeError, FloatingPointError) as error:
        # TerminateOnNaN's, which says no more than that, or the checkpoint's.
        if isinstance(error, RuntimeError) and "NaN" not in str(error):
            raise
        raise FloatingPointError(
            "Training diverged: the loss is not finite. Checkpoints in "
            f"{checkpoint.directory} are from before. Start again in another "
            "--run_dir with a lower learning rate."
        ) from error


def _check_validation(model, dataset):
    """Raises a `ValueError` unless replicas share the first batch evenly.

    Keras averages it over them when it traces a step.
    """
    replicas = num_replicas(model)
    if replicas == 1 or dataset is None:
        return
    rows = len(keras.tree.flatten(next(iter(dataset)))[0])
    if rows % replicas:
        raise ValueError(
            f"The first batch of {rows} validation images does not divide "
            f"among {replicas} replicas. Choose --batch_size, or "
            "--evaluation_images, so that it does."
        )


class _CheckInterrupts(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        interrupts.check()

    def on_test_batch_end(self, batch, logs=None):
        interrupts.check()
