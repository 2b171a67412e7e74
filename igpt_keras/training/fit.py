import contextlib
import math
import sys
import time

import keras
import numpy as np

from igpt_keras.backend import has_workers
from igpt_keras.backend import model_scope
from igpt_keras.backend import on_mesh
from igpt_keras.backend import optimizer_step
from igpt_keras.backend import whole_array
from igpt_keras.callbacks.curve_log import CurveLog
from igpt_keras.callbacks.restarted_logs import restart_logs
from igpt_keras.program import interrupts
from igpt_keras.storage.directory_lock import directory_lock
from igpt_keras.terminal import command_line
from igpt_keras.terminal import verbosity
from igpt_keras.training.devices import read_workers
from igpt_keras.training.evaluation import Evaluation
from igpt_keras.training.loss_watch import LossWatch
from igpt_keras.training.processes import leave_processes
from igpt_keras.training.sharding import on_own_devices
from igpt_keras.training.sharding import stay_on_own_devices
from igpt_keras.training.train_step import train_step

CHECKPOINT_MINUTES = 10.0
LOG_EVERY = 100


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
    validation_data=None,
    checkpoint_minutes=CHECKPOINT_MINUTES,
    checkpoint_steps=None,
    log_every=LOG_EVERY,
    micro_batches=1,
    steps_per_call=1,
    examples_of=None,
    config=None,
    write_best=None,
    verbose=1,
):
    """Trains from the last checkpoint to the end.

    What `model.fit` does where every step can be gone on from, on one device
    and under every strategy. An epoch is a period: where it ends, a checkpoint
    is written, then validation, and the callbacks' `on_epoch_end`. A run that
    is at its end, or out of patience, is left as it is. A signal stops training
    at the end of a step with a checkpoint of it, where
    `program.interrupts.handled` is in force. Of several workers the chief alone
    writes, and runs the callbacks, on a copy of the model; the others end here.

    Args:
        model: compiled Keras model.
        batches_from: function of a step, an int, to an endless dataset that
            begins with the batch of that step; for several workers also of a
            `tf.distribute.InputContext`, as `TokenSets.training_from` makes.
        steps: int. Training steps in all.
        period: int. Steps of an epoch.
        checkpoint: `TrainingCheckpoint`, which the model is restored from.
        progress: `Progress` of the run.
        callbacks: others, which come first. Defaults to none.
        log_dir: directory for TensorBoard's curves. Defaults to none.
        hyperparameters: dict of JSON values, shown beside them with this
            process's command. Defaults to none.
        validation_data: `tf.data.Dataset`. Defaults to none.
        checkpoint_minutes: float. Time between checkpoints, at most. Defaults
            to 10.
        checkpoint_steps: int. Steps between checkpoints, at most. Defaults to
            `None`: those between which time is up, and where an epoch ends.
        log_every: int. Steps between losses in the curves. Defaults to 100.
        micro_batches: int. Parts of a batch whose gradients are summed, one
            after the other, so that the memory of one is enough. Defaults to 1.
        steps_per_call: int. Steps that are taken before Python is asked again;
            divides `period`. Defaults to 1.
        examples_of: function of a step to a str, see `LossWatch`.
        config: dict of JSON values, what the run depends on, which checkpoints
            keep. Defaults to none.
        write_best: `PresetWriter`, which has the best weights so far where
            another process can open them. Defaults to none.
        verbose: 0 or 1. Whether to show progress. Defaults to 1.

    Returns:
        The model to go on with: `model`, or on several workers the copy.

    Raises:
        FloatingPointError: if training diverged.
        OSError: if no checkpoint could be written at the end.
        SystemExit: in another worker than the chief, once all is done.
        ValueError: if the checkpoints are of another model, another process
            trains there, or the steps of a call do not divide a period.
    """
    checkpoint.writes = not has_workers(model) or read_workers()[1]
    lock = contextlib.nullcontext()
    if checkpoint.writes:
        lock = directory_lock(checkpoint.directory)
    with lock:
        _build(model, batches_from)
        checkpoint.config = config
        checkpoint.write_best = write_best
        checkpoint.set_model(model)
        checkpoint.restore(model)
        run = _Run(
            model, checkpoint, progress, steps, period, callbacks, verbose
        )
        if run.is_over:
            return run.end()
        for name, count in (
            ("period", period),
            ("steps", steps),
            ("the steps done", run.step),
        ):
            if count % steps_per_call:
                raise ValueError(
                    f"steps_per_call={steps_per_call} does not divide {name}="
                    f"{count}. Choose another."
                )
        run.checkpoint_seconds = 60 * checkpoint_minutes
        run.checkpoint_steps = checkpoint_steps or math.inf
        run.log_every = log_every
        run.steps_per_call = steps_per_call
        run.train_step = train_step(model, micro_batches, steps_per_call)
        run.evaluation = Evaluation(model, validation_data)
        run.watch = LossWatch(model.optimizer, run.train_step.read, examples_of)
        # Written with what else there is of the run, wherever it stops.
        run.watch.events = progress.events
        if log_dir is not None and checkpoint.writes:
            # Steps that loss scaling skips are none of the optimizer's.
            restart_logs(log_dir, optimizer_step(model), not run.is_to_evaluate)
            run.curves = CurveLog(log_dir, hyperparameters, command_line())
        try:
            with checkpoint.in_background():
                run.go(batches_from)
        except FloatingPointError as error:
            raise checkpoint.diverged(error, "--run_dir") from error
        except Exception as error:
            if not _is_of_another_worker(error):
                raise
            raise OSError(
                "Another worker of TF_CONFIG is gone, and this one cannot go "
                "on alone. Start all again: they continue from the last "
                f"checkpoint in {checkpoint.directory}."
            ) from error
        return run.end()


class _Run:
    """Where a run is, and how it goes on."""

    curves = None

    def __init__(
        self, model, checkpoint, progress, steps, period, callbacks, verbose
    ):
        self.model = model
        self.checkpoint = checkpoint
        self.progress = progress
        self.steps = steps
        self.period = period
        self.callbacks = list(callbacks) if checkpoint.writes else []
        self.verbose = verbose and checkpoint.writes
        self.has_workers = has_workers(model)
        place = checkpoint.place
        self.epoch = place["epoch"]
        self.step = self.epoch * period + place["step_in_epoch"]
        self.loss, self.losses = place["loss"], place["losses"]
        # A checkpoint is written before what follows an epoch.
        self.is_to_evaluate = bool(self.epoch) and not (
            place["evaluated"] or place["step_in_epoch"]
        )
        progress.restore(self.epoch - self.is_to_evaluate, self.step)
        if self.step and self.verbose:
            sys.stdout.write(f"Continuing after step {self.step:,}.\n")
        elif progress.path.is_file() and self.verbose:
            sys.stdout.write(
                f"No checkpoint is left in {checkpoint.directory}: the run "
                "begins again.\n"
            )

    @property
    def is_over(self):
        if self.is_to_evaluate:
            return False
        done = self.step >= self.steps
        return done or self.checkpoint.out_of_patience(self.epoch)

    def end(self):
        """The model to go on with; does not come back in other workers."""
        if not self.has_workers:
            return self.model
        weights = _weights(self.model)
        if on_mesh():
            leave_processes()
            stay_on_own_devices()
        if not self.checkpoint.writes:
            raise SystemExit(0)
        return _copy(self.model, weights)

    def go(self, batches_from):
        """Trains to the end."""
        verbose = verbosity(self.verbose)
        callbacks = [*self.callbacks]
        self.shown = self.model
        if self.has_workers:
            weights = _weights(self.model)
            if callbacks:
                # What is read of the model by one of the workers only.
                with self._alone():
                    self.shown = _copy(self.model, weights)
        if self.curves is not None:
            callbacks.append(self.curves)
        if self.checkpoint.writes:
            callbacks.append(self.progress)
        self.bar = _Bar()
        if verbose:
            callbacks.append(self.bar)
        callbacks = keras.callbacks.CallbackList(
            callbacks,
            model=self.shown,
            verbose=verbose,
            epochs=math.ceil(self.steps / self.period),
            steps=self.period,
        )
        self.model.stop_training = self.shown.stop_training = False
        with self._alone():
            callbacks.on_train_begin()
        iterator = None
        try:
            while True:
                if not self.is_to_evaluate:
                    if iterator is None:
                        iterator = self.train_step.iterate(
                            batches_from, self.step
                        )
                    self._train_epoch(iterator, callbacks)
                else:
                    # Its steps were taken by an earlier process.
                    callbacks.on_epoch_begin(self.epoch - 1)
                logs = self._end_epoch(callbacks)
                if self.model.stop_training or self.step >= self.steps:
                    break
        except (KeyboardInterrupt, FloatingPointError):
            if self.checkpoint.writes:
                self.progress.save()
            if self.curves is not None:
                self.curves.flush()
            raise
        with self._alone():
            callbacks.on_train_end(logs)

    def _alone(self):
        """Where one of several processes uses its copy of the model."""
        if self.has_workers and on_mesh():
            return on_own_devices()
        return contextlib.nullcontext()

    def _train_epoch(self, iterator, callbacks):
        """The rest of an epoch, and a checkpoint of its end."""
        start = self.epoch * self.period
        end = min(start + self.period, self.steps)
        if self.step == start:
            self.loss, self.losses = 0.0, 0
            self.model.reset_metrics()
        self.bar.expect(self.step - start, end - start)
        callbacks.on_epoch_begin(self.epoch)
        saved, logged = time.monotonic(), _Window(self)
        saved_step = self.step
        with interrupts.deferred():
            while self.step < end:
                total, count, stopped = self.train_step(
                    iterator, interrupts.received()
                )
                self.step += self.steps_per_call
                self.loss += total
                self.losses += count
                self.watch.look(self.step, total, count, self.steps_per_call)
                callbacks.on_train_batch_end(
                    self.step - start - 1, {"loss": _mean(total, count)}
                )
                if self.step // self.log_every > logged.step // self.log_every:
                    logged = self._log(logged)
                due = (
                    time.monotonic() - saved >= self.checkpoint_seconds
                    or self.step - saved_step >= self.checkpoint_steps
                )
                if not self.has_workers:
                    stopped = interrupts.received()
                if self.step == end or due or stopped:
                    self._save(end)
                    saved, saved_step = time.monotonic(), self.step
                if stopped:
                    interrupts.stop()
        self.epoch += 1

    def _save(self, end):
        self.train_step.sync()
        at_end = self.step == end
        start = self.epoch * self.period
        self.checkpoint.save(
            {
                "step": self.step,
                "epoch": self.epoch + at_end,
                "step_in_epoch": 0 if at_end else self.step - start,
                "loss": self.loss,
                "losses": self.losses,
                "evaluated": False,
            }
        )

    def _end_epoch(self, callbacks):
        """Validation and what follows; the numbers of the epoch."""
        logs = self._metrics()
        logs.update(self.evaluation())
        if self.has_workers:
            weights = _weights(self.model)
            steps = whole_array(self.model.optimizer.iterations)
        if self.shown is not self.model:
            self.shown.set_weights(weights)
            self.shown.optimizer.iterations.assign(steps)
        with self._alone():
            callbacks.on_epoch_end(self.epoch - 1, logs)
        self.checkpoint.finish_epoch(logs)
        self.model.stop_training |= self.shown.stop_training
        self.is_to_evaluate = False
        return logs

    def _metrics(self):
        logs = {
            name: float(value)
            for name, value in self.model.get_metrics_result().items()
        }
        return {**logs, "loss": _mean(self.loss, self.losses)}

    def _log(self, before):
        now = _Window(self)
        losses = now.losses - before.losses
        if self.curves is not None and losses:
            self.train_step.sync()
            self.curves.log_steps(
                {
                    "loss": (now.loss - before.loss) / losses,
                    "steps_per_second": (now.step - before.step)
                    / max(now.time - before.time, 1e-9),
                }
            )
        return now


def _mean(total, count):
    return total / count if count else math.nan


class _Bar(keras.callbacks.ProgbarLogger):
    """Keras's progress bar, of the steps of an epoch that are left.

    It takes all that it is told of for steps of this process, and the speed and
    the time that is left from their number.
    """

    def expect(self, done, steps):
        self.done, self.target = done, steps - done

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch - self.done, logs)


class _Window:
    """What the last losses are counted from."""

    def __init__(self, run):
        self.step, self.loss, self.losses = run.step, run.loss, run.losses
        self.time = time.monotonic()


def _is_of_another_worker(error):
    """Whether TensorFlow raised it since a worker does not answer."""
    if "tensorflow" not in type(error).__module__:
        return False
    text = str(error)
    return "Collective ops is aborted" in text or "unhealthy" in text


def _weights(model):
    """A model's weights as arrays; all processes ask together."""
    return [whole_array(variable) for variable in model.weights]


def _copy(model, weights):
    """A model outside of the strategy of several workers, and its optimizer."""
    copy = type(model).from_config(model.get_config())
    copy.set_weights(weights)
    optimizer = model.optimizer
    copy.compile(type(optimizer).from_config(optimizer.get_config()))
    copy.optimizer.build(copy.trainable_variables)
    return copy


def _build(model, batches_from):
    """Makes what compiled metrics and the optimizer keep, in their scope."""
    batch = keras.tree.map_structure(
        lambda x: np.zeros([d or 1 for d in x.shape], x.dtype.as_numpy_dtype),
        batches_from(0).element_spec,
    )
    with model_scope(model):
        model._symbolic_build(data_batch=batch)
