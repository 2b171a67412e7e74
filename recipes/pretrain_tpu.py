"""Pretrains an Image GPT on a TPU: `pretrain.py` with its settings for one.

    python recipes/pretrain_tpu.py --tpu=$NAME --dataset=imagenet2012 \
        --data_dir=gs://BUCKET/tensorflow_datasets --preset=igpt_s \
        --run_dir=runs/igpt_s

`--tpu` is `local` on a TPU VM, the TPU's name, or `grpc://ADDRESS:8470`. Unless
said otherwise matrix products are in bfloat16, and the device takes ten steps
before the program looks again. All else, flags, logs and checkpoints, is as for
`pretrain.py`, which with the same `--dtype` goes on with a run that was begun
here, and the other way round. README says how to install TensorFlow for TPUs.
We had no TPU to run this on: the tests compile the same steps by XLA, of static
shapes, and hold several replicas to one device.
"""

import pretrain
from absl import flags

from igpt_keras import program

TPU_DEFAULTS = {"dtype": "mixed_bfloat16", "steps_per_call": 10}


def define_flags():
    pretrain.define_flags()
    flags.mark_flag_as_required("tpu")
    for name, value in TPU_DEFAULTS.items():
        flags.FLAGS.set_default(name, value)


def main(args):
    """Pretrains, as `pretrain.py` does."""
    pretrain.main(args)


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
