"""Kills a training run again and again, and compares its end with another's.

    python tools/soak.py --kills=20 --directory=runs/soak \
        --command="pretrain.py \
        --dataset=cifar10 --input_resolution=8 --preset=igpt_nano --steps=400"

The command runs twice side by side: undisturbed, and with signals at random
moments, every other one SIGKILL and SIGTERM. Both must end with the same
checkpoint, bit for bit. `soak.json` in the directory says what was done to it.
"""

import json
import os
import pathlib
import random
import shlex
import signal
import subprocess
import sys
import time

import numpy as np
from absl import app
from absl import flags

from igpt_keras.storage.checkpoint_directory import read_checkpoint
from igpt_keras.storage.json_file import write_json

RECIPES = pathlib.Path(__file__).parent.parent / "recipes"
# Seconds that a SIGTERM may take: preempted machines give 30.
PATIENCE = 30

FLAGS = flags.FLAGS


def define_flags():
    flags.DEFINE_string(
        "command", None, "A training recipe with its flags but --run_dir."
    )
    flags.DEFINE_string("directory", None, "Where both runs go.")
    flags.DEFINE_integer("kills", 20, "Signals to send.", lower_bound=1)
    flags.DEFINE_float(
        "seconds", 20.0, "Between two, on average, after training began."
    )
    flags.DEFINE_integer("seed", 0, "Of the moments.")
    flags.mark_flags_as_required(["command", "directory"])


def main(argv):
    directory = pathlib.Path(FLAGS.directory)
    directory.mkdir(parents=True)
    whole, disturbed = directory / "whole", directory / "disturbed"
    undisturbed = launch(whole, directory / "whole.log")
    generator = random.Random(FLAGS.seed)
    kills = []
    start = time.monotonic()
    while True:
        run = launch(disturbed, directory / "disturbed.log")
        if len(kills) == FLAGS.kills:
            status = run.wait()
            break
        kill = disturb(run, disturbed, generator, len(kills))
        if kill is None:
            status = run.returncode
            break
        kills.append(kill)
        print(f"{len(kills)}: {kill}", flush=True)
    seconds = time.monotonic() - start
    if undisturbed.wait():
        sys.exit(f"The command fails by itself: see {directory / 'whole.log'}.")
    if status:
        sys.exit(f"It ended with {status}: see {directory / 'disturbed.log'}.")
    found = {
        "command": FLAGS.command,
        "disturbed_seconds": seconds,
        "kills": kills,
        "arrays": compare(whole, disturbed),
    }
    write_json(directory / "soak.json", found)
    slow = [k["seconds_to_end"] for k in kills if k["signal"] == "SIGTERM"]
    print(
        f"{len(kills)} signals, {len(slow)} of them SIGTERM, which took "
        f"{max(slow, default=0.0):.1f} s at most; {found['arrays']} arrays of "
        "the last checkpoint are the same, bit for bit."
    )


def launch(run_dir, log):
    """The command as a process of its own."""
    recipe, *words = shlex.split(FLAGS.command)
    command = [sys.executable, str(RECIPES / recipe), *words]
    with open(log, "a") as file:
        return subprocess.Popen(
            [*command, f"--run_dir={run_dir}"], stdout=file, stderr=file
        )


def disturb(run, run_dir, generator, place):
    """Sends a signal at a random moment; `None` if the run ends before it."""
    before = newest_step(run_dir)
    drawn = generator.uniform(0, 2 * FLAGS.seconds)
    # Half of the moments count from the start, half from the next checkpoint.
    from_checkpoint = generator.random() < 0.5
    while from_checkpoint and newest_step(run_dir) == before:
        if run.poll() is not None:
            return None
        time.sleep(0.2)
    try:
        run.wait(timeout=drawn)
        return None
    except subprocess.TimeoutExpired:
        pass
    name = ("SIGKILL", "SIGTERM")[place % 2]
    sent = time.monotonic()
    run.send_signal(signal.Signals[name])
    run.wait(timeout=PATIENCE)
    return {
        "signal": name,
        "seconds_to_end": time.monotonic() - sent,
        "step_before": before,
        "step_after": newest_step(run_dir),
    }


def newest_step(run_dir):
    # Not `rglob`, which fails on a directory that is renamed meanwhile.
    found = (name for _, names, _ in os.walk(run_dir) for name in names)
    steps = [int(name[5:]) for name in found if name.startswith("step_")]
    return max(steps, default=0)


def compare(one, two):
    """Number of arrays in the last checkpoints; ends if any differs."""
    paths = [max(path.rglob("step_*")) for path in (one, two)]
    (first, place), (second, other) = map(read_checkpoint, paths)
    if place["step"] != other["step"] or first.keys() != second.keys():
        sys.exit(f"{paths[0]} and {paths[1]} are of other steps or models.")
    for key, array in first.items():
        if not np.array_equal(array, second[key]):
            sys.exit(f"{key} differs: {json.dumps(place['variables'][key])}.")
    return len(first)


if __name__ == "__main__":
    define_flags()
    app.run(main)
