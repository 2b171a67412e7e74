"""Training steps of one implementation, one for each line that comes in.

`tools/benchmark.py` starts it for each that it compares, under a Python that
has it, and in a process of its own: its memory is its own then.
"""

import json
import os
import sys
import time
import types

from process_memory import forget_peak
from process_memory import memory_of_process

# What it says stands behind this, among what libraries print.
MARK = "benchmark: "


def ours(size):
    """Prepares steps of an `IGPT`.

    Args:
        size: namespace of `images`, `tokens`, `layers`, `heads`, `width`,
            `colours`, `threads` (0: all), `seed` and `replicas` (1, or logical
            CPU devices that share the batch).

    Returns:
        A function that takes one step and returns its loss.
    """
    import contextlib

    import keras
    import numpy as np
    import tensorflow as tf

    import igpt_keras
    from igpt_keras import training
    from igpt_keras.training.train_step import train_step

    if size.threads:
        tf.config.threading.set_intra_op_parallelism_threads(size.threads)
        tf.config.threading.set_inter_op_parallelism_threads(size.threads)
    keras.utils.set_random_seed(size.seed)
    scope = contextlib.nullcontext
    if size.replicas > 1:
        (cpu,) = tf.config.list_physical_devices("CPU")
        devices = [tf.config.LogicalDeviceConfiguration()] * size.replicas
        tf.config.set_logical_device_configuration(cpu, devices)
        names = [f"CPU:{i}" for i in range(size.replicas)]
        scope = tf.distribute.MirroredStrategy(names).scope
    with scope():
        model = igpt_keras.IGPT(
            size.colours, size.tokens, size.layers, size.heads, size.width
        )
        model.compile(training.paper_adam(1e-3))
    generator = np.random.default_rng(size.seed)
    shape = (size.images, size.tokens)
    x = generator.integers(0, size.colours, shape).astype("int32")
    with scope():
        model._symbolic_build(data_batch=(x, x))
    step = train_step(model)
    data = tf.data.Dataset.from_tensors((x, x)).repeat()
    batches = step.iterate(lambda start: data, 0)
    return lambda: step(batches)[0]


def ours_on_jax(size):
    """`ours` on the JAX backend; its threads are limited by its cores."""
    os.environ["KERAS_BACKEND"] = "jax"
    if size.threads:
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[: size.threads])
    return ours(size)


def plain(size):
    """The model of `tools/torch_gpt.py`."""
    from torch_gpt import GPT

    return GPT(size.colours, size.tokens, size.layers, size.heads, size.width)


def hugging_face(size):
    """ImageGPT of Hugging Face, without its dropout."""
    import transformers

    transformers.logging.set_verbosity_error()
    config = transformers.ImageGPTConfig(
        vocab_size=size.colours + 1,
        n_positions=size.tokens,
        n_embd=size.width,
        n_layer=size.layers,
        n_head=size.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
    )
    return transformers.ImageGPTForCausalImageModeling(config).train()


def in_torch(build, compiled):
    """`ours`, of a PyTorch model that `build` makes of a size."""

    def prepare(size):
        import numpy as np
        import torch

        if size.threads:
            torch.set_num_threads(size.threads)
        torch.manual_seed(size.seed)
        model = build(size)
        optimizer = torch.optim.Adam(
            model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True
        )
        if compiled:
            model = torch.compile(model)
        generator = np.random.default_rng(size.seed)
        shape = (size.images, size.tokens)
        x = torch.as_tensor(generator.integers(0, size.colours, shape))
        start = torch.full((size.images, 1), size.colours)
        shifted = torch.cat([start, x[:, :-1]], dim=1)

        def step():
            optimizer.zero_grad(set_to_none=True)
            logits = model(shifted)
            logits = getattr(logits, "logits", logits)
            loss = torch.nn.functional.cross_entropy(
                logits.flatten(0, 1), x.flatten()
            )
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    return prepare


# By name: what prepares steps, and the modules that it needs.
WAYS = {
    "igpt_keras": (ours, ["igpt_keras", "tensorflow"]),
    "igpt_keras_jax": (ours_on_jax, ["igpt_keras", "tensorflow", "jax"]),
    "torch_gpt": (in_torch(plain, False), ["torch"]),
    "torch_gpt_compiled": (in_torch(plain, True), ["torch"]),
    "hugging_face": (in_torch(hugging_face, False), ["torch", "transformers"]),
    "hugging_face_compiled": (
        in_torch(hugging_face, True),
        ["torch", "transformers"],
    ),
}


def take_steps(prepare, size):
    """Yields what is measured of each step, without end.

    The first step, which traces and compiles, is taken before and not
    measured; its peak of memory is not one of the others.

    Args:
        prepare: a function of `WAYS`.
        size: see `ours`.

    Yields:
        dict of the `loss`, `seconds` by the clock, `cpu_seconds` of all
        threads, and `growth`, bytes from the built model to the peak.
    """
    step = prepare(size)
    before = memory_of_process("VmRSS")
    step()
    forget_peak()
    while True:
        wall, cpu = time.perf_counter(), time.process_time()
        loss = step()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        yield {
            "loss": loss,
            "seconds": wall,
            "cpu_seconds": cpu,
            "growth": memory_of_process("VmHWM") - before,
        }


def main(name, size):
    steps = take_steps(WAYS[name][0], types.SimpleNamespace(**json.loads(size)))
    for _ in sys.stdin:
        print(MARK + json.dumps(next(steps)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
