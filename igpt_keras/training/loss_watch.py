import collections
import statistics
import sys

# Of the losses that a step's is held against.
_LOSSES = 100
_FEWEST = 10
# Nats per token seldom double from one step to the next.
_SPIKE = 2.0


class LossWatch:
    """Looks for losses that jump, and for gradients that are not finite.

    A loss of more than twice the median of the last hundred is a spike: it is
    said, and training goes on. `SafeAdam` skips steps whose gradient is not
    finite; of those the step and its examples are said, and after
    `most_skipped` in a row, with no weight having moved, training ends.

    Args:
        optimizer: the model's; with another than `SafeAdam` a first loss that
            is not finite ends training.
        read: function of a variable of it to its value.
        examples_of: function of a step, from 0, to a str that says which
            examples its batch was made of. Defaults to none.
        most_skipped: int. Defaults to 10.

    Attributes:
        events: list of dicts of `kind` (`"loss_spike"`, `"skipped_steps"`),
            `step`, and `loss` and `median`, or `skipped` and `examples`.
    """

    def __init__(self, optimizer, read, examples_of=None, most_skipped=10):
        # Loss scaling skips steps of its own, and looks for a scale so.
        self.optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        self.read = read
        self.examples_of = examples_of
        self.most_skipped = most_skipped
        self.events = []
        self._losses = collections.deque(maxlen=_LOSSES)
        self._skipped = self._read("skipped_steps")

    def look(self, step, total, count, steps):
        """Takes in what a call of the training step gave.

        Args:
            step: int. Steps that are done.
            total: float. Sum of the finite losses.
            count: int. Their number.
            steps: int. Steps of this call.

        Raises:
            FloatingPointError: if training diverged.
        """
        if count < steps and not hasattr(self.optimizer, "skipped_steps"):
            raise FloatingPointError("the loss is not finite")
        self._look_for_skipped()
        if count:
            self._look_for_spike(step, total / count)

    def _look_for_skipped(self):
        skipped = self._read("skipped_steps")
        if skipped == self._skipped:
            return
        self._skipped = skipped
        step = self._read("last_skipped_step")
        examples = self.examples_of(step) if self.examples_of else None
        self.events.append(
            {
                "kind": "skipped_steps",
                "step": step + 1,
                "skipped": skipped,
                "examples": examples,
            }
        )
        of = f" Its batch: {examples}." if examples else ""
        sys.stdout.write(
            f"\nThe gradient of step {step + 1:,} is not finite. The step was "
            f"skipped, {skipped:,} so far.{of}\n"
        )
        if self._read("skipped_in_a_row") >= self.most_skipped:
            raise FloatingPointError(
                f"the gradients of {self.most_skipped} steps in a row are not "
                "finite"
            )

    def _look_for_spike(self, step, loss):
        if len(self._losses) >= _FEWEST:
            median = statistics.median(self._losses)
            if loss > _SPIKE * median:
                self.events.append(
                    {
                        "kind": "loss_spike",
                        "step": step,
                        "loss": loss,
                        "median": median,
                    }
                )
                sys.stdout.write(
                    f"\nThe loss jumped to {loss:.3f} at step {step:,}, from "
                    f"{median:.3f}.\n"
                )
        self._losses.append(loss)

    def _read(self, name):
        variable = getattr(self.optimizer, name, None)
        return 0 if variable is None else int(self.read(variable))
