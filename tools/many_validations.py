"""Validates thousands of times on two replicas, as a run of weeks does.

    python tools/many_validations.py --validations=3000

Keras makes an iterator for each evaluation under `tf.distribute` and drops it
at its end, which crashed twice in some 1,200 validations. Ours must end well.
"""

import sys
import time

import numpy as np
from absl import app
from absl import flags

import igpt_keras
from igpt_keras.program import peak_memory
from igpt_keras.training.evaluation import Evaluation

FLAGS = flags.FLAGS
flags.DEFINE_integer("validations", 3000, "How many.", lower_bound=2)


def main(argv):
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(
        cpu, [tf.config.LogicalDeviceConfiguration()] * 2
    )
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = igpt_keras.IGPT(11, 16, 1, 1, 4)
        model.compile("adam")
    token_ids = np.random.default_rng(0).integers(0, 11, (35, 16), "int32")
    batches = tf.data.Dataset.from_tensor_slices((token_ids, token_ids))
    evaluation = Evaluation(model, batches.batch(16))
    first = evaluation()
    start, before = time.monotonic(), peak_memory()
    for count in range(2, FLAGS.validations + 1):
        if evaluation() != first:
            sys.exit(f"Validation {count} differs from the first.")
        if count % 500 == 0:
            print(f"{count:,} validations", flush=True)
    seconds = time.monotonic() - start
    grown = (peak_memory() - before) / 2**20
    print(
        f"{FLAGS.validations:,} validations, all the same, in {seconds:.0f} s; "
        f"memory grew by {grown:.0f} MiB after the first."
    )


if __name__ == "__main__":
    app.run(main)
