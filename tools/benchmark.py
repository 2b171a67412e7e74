"""Seconds and memory of a training step, beside what else does the same.

    pip install -e ".[benchmark]"
    python tools/benchmark.py --tokens=1024 --images=4 --output=step.json

igpt_keras on TensorFlow and on JAX; a plain GPT in PyTorch
(`tools/torch_gpt.py`) as it is and compiled; and ImageGPT of Hugging Face, as
it is and compiled. All train networks of one shape on one batch with Adam in
float32, in turns in one run, each in a process of its own: what the first step
traces and compiles is not timed, and how far a process grows from the built
model to its peak is its own. The ratios are what to compare: of the least
times, by the clock and, on a machine that others use too, of all threads' CPU
seconds.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

from absl import app
from absl import flags
from benchmark_step import MARK
from benchmark_step import WAYS

_SIZE = {
    "images": (4, "Images in the batch."),
    "tokens": (1024, "Tokens of an image."),
    "layers": (6, "Layers."),
    "heads": (8, "Attention heads."),
    "width": (256, "Width."),
    "colours": (512, "Size of the vocabulary."),
}


def define_flags():
    for name, (default, text) in _SIZE.items():
        flags.DEFINE_integer(name, default, text, lower_bound=1)
    flags.DEFINE_integer("runs", 5, "Steps of each.", lower_bound=5)
    flags.DEFINE_integer(
        "threads", 0, "Threads of each; 0 is its default.", lower_bound=0
    )
    flags.DEFINE_string(
        "peer_python",
        sys.executable,
        "The Python that has torch and transformers.",
    )
    flags.DEFINE_list("ways", list(WAYS), "What to measure.")
    flags.DEFINE_string("output", None, "JSON file to write.")


def matmul_rate(size=1024, repeats=5):
    """Float32 GFLOP/s of one product of square matrices, all cores at it."""
    import numpy as np

    x = np.random.default_rng(0).normal(size=(size, size)).astype("float32")
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        x @ x
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds) / 1e9


def missing_modules(python, modules):
    """Those of some modules that a Python does not find."""
    program = (
        "import importlib.util, sys\n"
        "print(*[m for m in sys.argv[1:] if not importlib.util.find_spec(m)])"
    )
    result = subprocess.run(
        [python, "-c", program, *modules], capture_output=True, text=True
    )
    if result.returncode:
        raise ValueError(f"{python} does not run: {result.stderr[-1000:]}")
    return result.stdout.split()


class Process:
    """Steps of one way, in a process of its own.

    Args:
        python: path of the Python to run.
        name: a way of `benchmark_step.WAYS`.
        size: dict, what its `ours` takes.
    """

    def __init__(self, python, name, size):
        self.name = name
        path = pathlib.Path(__file__).with_name("benchmark_step.py")
        self.process = subprocess.Popen(
            [python, str(path), name, json.dumps(size)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __next__(self):
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        for line in self.process.stdout:
            if line.startswith(MARK):
                return json.loads(line.removeprefix(MARK))
        raise ValueError(f"{self.name} failed; what it said is above.")

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def measure(ways, runs):
    """What is measured of each way's steps, taken in turns."""
    found = {name: [] for name in ways}
    for _ in range(runs):
        for name, steps in ways.items():
            found[name].append(next(steps))
    return found


def summarize(found):
    """By way its times, growth, and its ratios to the first way's."""
    summary = {}
    for name, steps in found.items():
        row = {"growth": steps[-1]["growth"], "loss": steps[-1]["loss"]}
        for clock in ("seconds", "cpu_seconds"):
            times = [step[clock] for step in steps]
            row[clock] = {
                "min": min(times),
                "median": statistics.median(times),
                "max": max(times),
            }
        summary[name] = row
    first = summary[next(iter(summary))]
    for row in summary.values():
        row["ratios"] = {
            clock: first[clock]["min"] / row[clock]["min"]
            for clock in ("seconds", "cpu_seconds")
        }
        # A process that was larger before does not grow.
        if row["growth"]:
            row["ratios"]["growth"] = first["growth"] / row["growth"]
    return summary


def write_table(summary):
    """Rows of text: seconds, CPU seconds, MB, and the ratios."""
    first = next(iter(summary))
    heads = ("min", "median", "max", "CPU min", "median", "max", "MB")
    lines = [f"{'':22}" + "".join(f"{head:>9}" for head in heads)]
    for name, row in summary.items():
        numbers = [*row["seconds"].values(), *row["cpu_seconds"].values()]
        line = "".join(f"{number:9.3f}" for number in numbers)
        lines.append(f"{name:22}{line}{row['growth'] / 1e6:9.0f}")
    for name, row in summary.items():
        if name != first:
            parts = ", ".join(
                f"{row['ratios'][key]:.2f} of its {text}"
                for key, text in (
                    ("seconds", "seconds"),
                    ("cpu_seconds", "CPU seconds"),
                    ("growth", "memory"),
                )
                if key in row["ratios"]
            )
            lines.append(f"{first} to {name}: {parts}")
    return "\n".join(lines)


def open_ways(names, size, peer_python):
    """A `Process` for each way whose modules are there; says which are not."""
    ways = {}
    for name in names:
        if name not in WAYS:
            raise ValueError(f"--ways={name}: choose of {', '.join(WAYS)}.")
        is_ours = name.startswith("igpt_keras")
        python = sys.executable if is_ours else peer_python
        missing = missing_modules(python, WAYS[name][1])
        if missing:
            print(f"{name} is left out: {python} has no {', '.join(missing)}.")
        else:
            ways[name] = Process(python, name, size)
    return ways


def main(argv):
    del argv
    args = flags.FLAGS
    size = {name: getattr(args, name) for name in _SIZE}
    size |= {"threads": args.threads, "seed": 0, "replicas": 1}
    rate = matmul_rate()
    ways = open_ways(args.ways, size, args.peer_python)
    try:
        found = measure(ways, args.runs)
    finally:
        for steps in ways.values():
            steps.close()
    summary = summarize(found)
    print(
        f"{args.images} images of {args.tokens} tokens, {args.layers} layers "
        f"of width {args.width}, {args.heads} heads, {args.colours} colours\n"
        f"{os.cpu_count()} hardware threads, threads: "
        f"{args.threads or 'default'}, load {os.getloadavg()[0]:.1f}, products "
        f"of matrices at {rate:.0f} GFLOP/s\n{write_table(summary)}"
    )
    if args.output:
        document = {
            **size,
            "hardware_threads": os.cpu_count(),
            "load": os.getloadavg()[0],
            "matmul_gflops": rate,
            "steps": found,
            "summary": summary,
        }
        text = json.dumps(document, indent=2) + "\n"
        pathlib.Path(args.output).write_text(text)


if __name__ == "__main__":
    define_flags()
    app.run(main)
