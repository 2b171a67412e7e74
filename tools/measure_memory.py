"""Peak memory of a training step, beside what `--dry_run` estimates.

    python tools/measure_memory.py --output=memory.json

Each size takes two training steps of TensorFlow on the CPU, without and with
`--remat`, in a process of its own. Measured is how far the process grows from
the traced step to the peak of the second: gradients and activations, without
the program, the weights and Adam's moments.
"""

import json
import os
import pathlib
import subprocess
import sys

from absl import app
from absl import flags
from process_memory import forget_peak
from process_memory import memory_of_process

from igpt_keras.reports.memory import estimate_training_memory

# Layers, width, heads, tokens, images.
SIZES = ["6x256x8x1024x4", "4x128x4x1024x8", "8x96x4x256x32"]
VOCABULARY = 512
_GROWTH = "growth in bytes: "


def define_flags():
    flags.DEFINE_list(
        "sizes", SIZES, "LAYERSxWIDTHxHEADSxTOKENSxIMAGES of each size."
    )
    flags.DEFINE_enum(
        "objective", "autoregressive", ["autoregressive", "bert"], "Objective."
    )
    flags.DEFINE_enum(
        "dtype", "float32", ["float32", "mixed_bfloat16"], "Keras dtype policy."
    )
    flags.DEFINE_integer(
        "micro_batches", 1, "Parts of each batch.", lower_bound=1
    )
    flags.DEFINE_string("output", None, "A JSON file for the numbers.")
    flags.DEFINE_string(
        "step", None, "Arguments as JSON: what a process of one step measures."
    )


def read_size(text):
    """Arguments of an `IGPT` and its batch, of a value of `--sizes`."""
    words = text.split("x")
    if len(words) != 5 or not all(w.isdecimal() and int(w) for w in words):
        raise ValueError(
            f"--sizes={text}: expected LAYERSxWIDTHxHEADSxTOKENSxIMAGES, such "
            f"as {SIZES[0]}."
        )
    names = "num_layers hidden_dim num_heads sequence_length batch_size"
    return dict(zip(names.split(), map(int, words)))


def train(batch_size, micro_batches, **size):
    """Bytes that this process grows by in two training steps."""
    import keras
    import numpy as np
    import tensorflow as tf

    import igpt_keras
    from igpt_keras import training
    from igpt_keras.training.train_step import train_step

    keras.utils.set_random_seed(0)
    model = igpt_keras.IGPT(vocabulary_size=VOCABULARY, **size)
    model.compile(training.paper_adam(1e-3))
    shape = (batch_size, model.sequence_length)
    generator = np.random.default_rng(0)
    y = generator.integers(0, VOCABULARY, shape).astype("int32")
    x = y
    if model.objective == "bert":
        x = {"token_ids": y, "mask": generator.random(shape) < 0.15}
    model._symbolic_build(data_batch=(x, y))
    step = train_step(model, micro_batches)
    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    batches = step.iterate(lambda start: data, 0)
    step._call.get_concrete_function(batches, tf.constant(0.0))
    before = memory_of_process("VmRSS")
    # Before the first step TensorFlow computes constants, in main memory on
    # every device; the peak is of the steps after it.
    step(batches)
    forget_peak()
    step(batches)
    return memory_of_process("VmHWM") - before


def measure(arguments):
    """`train` in a process of its own."""
    result = subprocess.run(
        [sys.executable, __file__, f"--step={json.dumps(arguments)}"],
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            # glibc gives back what is freed: the peak is one of tensors.
            "MALLOC_MMAP_THRESHOLD_": "65536",
            "MALLOC_TRIM_THRESHOLD_": "65536",
        },
        capture_output=True,
        text=True,
    )
    _, found, growth = result.stdout.rpartition(_GROWTH)
    if result.returncode or not found:
        raise ValueError(f"{arguments} failed: {result.stderr[-2000:]}")
    return int(growth)


def compare(arguments):
    """Bytes measured and estimated, and what share the second is."""
    measured = measure(arguments)
    found = estimate_training_memory(vocabulary_size=VOCABULARY, **arguments)
    estimated = found["total"] - found["weights"] - found["moments"]
    return {
        "measured": measured,
        "estimated": round(estimated),
        "ratio": estimated / measured,
    }


def main(argv):
    del argv
    args = flags.FLAGS
    if args.step:
        print(f"{_GROWTH}{train(**json.loads(args.step))}")
        return
    rows = []
    print("size                 remat  measured  estimated  ratio")
    for text in args.sizes:
        size = read_size(text)
        for remat in (False, True):
            arguments = {
                **size,
                "objective": args.objective,
                "dtype": args.dtype,
                "micro_batches": args.micro_batches,
                "remat": remat,
            }
            row = {**arguments, **compare(arguments)}
            print(
                f"{text:<21}{'yes' if remat else 'no':<5}"
                f"{row['measured'] / 1e6:7.0f} MB {row['estimated'] / 1e6:7.0f}"
                f" MB {row['ratio']:6.2f}",
                flush=True,
            )
            rows.append(row)
    if args.output:
        pathlib.Path(args.output).write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    define_flags()
    app.run(main)
