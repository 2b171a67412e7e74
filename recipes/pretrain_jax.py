"""Pretrains an Image GPT on several devices of JAX: `pretrain.py` on a mesh.

    python recipes/pretrain_jax.py --model_parallel=2 --dataset=digits \
        --preset=igpt_nano --run_dir=runs/digits

The devices are a mesh of `--data_parallel` by `--model_parallel`: the first
share each batch, the second each weight, for networks that are larger than a
device; see `training.igpt_layout_map`. Without either all devices share the
batch. All else, flags (but `--strategy` and `--tpu`), logs and checkpoints, is
as for `pretrain.py`, which goes on with a run that was begun here, and the
other way round. `--preset` is needed beside `--init` too.

On several hosts start it on each with the same flags, `--job_addresses` (of all
hosts, or of the first), `--num_processes` and an own `--process_id`, or with
Keras's KERAS_DISTRIBUTION_JOB_ADDRESSES and so on; `--run_dir` is on a file
system that they share, and the first one writes.

TensorFlow reads the data: install the one for CPUs beside JAX.
"""

import os
import sys

if "keras" not in sys.modules:
    os.environ.setdefault("KERAS_BACKEND", "jax")

import keras  # noqa: E402
import pretrain  # noqa: E402
from absl import flags  # noqa: E402

from igpt_keras import presets  # noqa: E402
from igpt_keras import program  # noqa: E402
from igpt_keras import training  # noqa: E402


def define_flags():
    pretrain.define_flags()
    flags.DEFINE_integer(
        "data_parallel",
        None,
        "Shares of a batch. Defaults to the devices over --model_parallel.",
        lower_bound=1,
    )
    flags.DEFINE_integer(
        "model_parallel",
        1,
        "Devices that share each weight; divides the heads.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "job_addresses",
        None,
        "On several hosts HOST:PORT of the first one, or of all with commas "
        "between.",
    )
    flags.DEFINE_integer("num_processes", None, "Hosts in all.", lower_bound=1)
    flags.DEFINE_integer(
        "process_id", None, "Number of this host, from 0.", lower_bound=0
    )


def main(args):
    """Pretrains, as `pretrain.py` does, on all devices."""
    check_backend(args)
    program.call(training.join_processes, args)
    batch_size = presets.PRETRAINING[args.preset]["batch_size"]
    program.call(
        training.device_mesh,
        args,
        num_heads=args.num_heads or presets.IGPT[args.preset]["num_heads"],
        batch_size=args.batch_size or batch_size,
    )
    pretrain.main(args)


def check_backend(args):
    """Refuses what is of TensorFlow."""
    backend = keras.backend.backend()
    if backend != "jax":
        raise ValueError(
            f"KERAS_BACKEND is {backend}, and the devices of JAX need jax. "
            "Unset it, or use pretrain.py, which trains on all GPUs."
        )
    if args.preset is None:
        raise ValueError(
            "The devices are laid out by --preset: pass it beside --init."
        )
    if args.strategy != "auto" or args.tpu is not None:
        raise ValueError(
            "--strategy and --tpu are of tf.distribute, on TensorFlow. Leave "
            "them out: JAX trains on all devices that it finds, TPUs too."
        )


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
