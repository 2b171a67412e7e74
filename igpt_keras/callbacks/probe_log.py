import importlib.util
import re
import tempfile

from igpt_keras.callbacks.only_shows import only_shows
from igpt_keras.callbacks.probe_record import chosen_accuracy
from igpt_keras.reports.figures import probe_curve_image


class ProbeLog:
    """The curves of a `LinearProbe` on TensorBoard; what they are says it.

    Args:
        name: str. The dataset's, as in `LinearProbe`.
        log_dir: `Path`, directory for TensorBoard; `probe_{name}` in it is
            written.

    Raises:
        ImportError: if TensorFlow, which writes them, is not installed.
        ValueError: if `log_dir` cannot be written.
    """

    def __init__(self, name, log_dir):
        self.name = name
        self.log_dir = _check_writable(log_dir)
        self._writers = {}

    def write(self, records):
        """Writes the last of a fit's probes.

        Args:
            records: list of dicts, `LinearProbe.fit_history`.
        """
        with only_shows(self.log_dir):
            self._write(records)

    def close(self):
        """Closes the files; what is written later goes into new ones."""
        writers, self._writers = self._writers, {}
        for writer in writers.values():
            with only_shows(self.log_dir):
                writer.close()

    def _write(self, records):
        import tensorflow as tf

        # TensorBoard opens its first groups only, in alphabetical order: with
        # this name the probe curves come before Keras's epoch_loss.
        group = f"accuracy_probe_{self.name}"
        record = records[-1]
        step = record["step"]
        layers = list(zip(record["layers"], record["accuracy"]))
        if not self._writers:
            with self._writer("").as_default(step=0):
                tf.summary.experimental.write_raw_pb(_custom_chart(group))
        with self._writer("").as_default(step=step):
            tf.summary.scalar(
                f"{group}/chosen",
                chosen_accuracy(record),
                description=f"Accuracy on {record['test_images']} images, of "
                f"the layer chosen on {record['held_out_images']} others.",
            )
            for key in ("chosen_layer", "standard_error"):
                tf.summary.scalar(f"{group}/{key}", record[key])
            if "neighbors" in record:
                tf.summary.scalar(
                    f"{group}/neighbors",
                    chosen_accuracy(record, "neighbors_"),
                    description="Accuracy of nearest neighbours, of the layer "
                    "and the number of them chosen on the same others.",
                )
            tf.summary.image(f"{group}/curve", probe_curve_image(records)[None])
        # A run a line, since TensorBoard colours runs and names them.
        after_step = self._writer(f"after_step_{step:08d}")
        for layer, accuracy in layers:
            with self._writer(f"layer_{layer:02d}").as_default(step=step):
                tf.summary.scalar(f"{group}/layers", accuracy)
            with after_step.as_default(step=layer):
                tf.summary.scalar(f"{group}/by_depth", accuracy)
        with self._writer("chance").as_default(step=step):
            tf.summary.scalar(
                f"{group}/layers",
                record["chance"],
                description="`chance` is the share of the largest class.",
            )
        for writer in self._writers.values():
            writer.flush()
        self._writers.pop(f"after_step_{step:08d}").close()

    def _writer(self, run):
        import tensorflow as tf

        if run not in self._writers:
            path = self.log_dir / f"probe_{self.name}" / run
            self._writers[run] = tf.summary.create_file_writer(str(path))
        return self._writers[run]


def _check_writable(log_dir):
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            "log_dir needs TensorFlow to write for TensorBoard. Install it "
            "with `pip install tensorflow`, or leave log_dir out: results are "
            "in `history` and in the epoch's logs."
        )
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=log_dir):
            pass
    except OSError as error:
        raise ValueError(
            f"log_dir {str(log_dir)!r} cannot be written: {error}. Choose a "
            "directory you may write to."
        ) from error
    return log_dir


def _custom_chart(group):
    """All layers in one chart, for TensorBoard's Custom Scalars."""
    from tensorboard.plugins.custom_scalar import layout_pb2
    from tensorboard.plugins.custom_scalar import summary

    # A name may have characters of regular expressions.
    tag = rf"{re.escape(group)}/layers$"
    chart = layout_pb2.Chart(
        title="accuracy of each layer",
        multiline=layout_pb2.MultilineChartContent(tag=[tag]),
    )
    category = layout_pb2.Category(title=group, chart=[chart])
    layout = layout_pb2.Layout(category=[category])
    return summary.pb(layout).SerializeToString()
