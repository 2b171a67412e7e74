"""How the time of a training step grows with layers, width and tokens.

    python tools/benchmark_scaling.py --picture=scaling.png

Steps of networks around one size, each changed in one thing, are timed in
turns, each network in a process of its own. `presets.count_training_flops` says
what they should cost beside each other: one rate for all is fitted first. Then
come the parts that go by other rates, of which the fit (least squares of
relative errors, no part below zero) says how much of each step they are:

- matrix products with weights;
- attention, whose softmax cannot be told from its products: with heads of one
  width both grow as `D N^2`;
- what passes over activations, of `N D` values a layer, and over logits, `N V`;
- what a step costs however small it is, and each layer of it.

Beside them stands the base size with two and four logical devices that share
its batch, which is what the strategy costs where no core is added.
"""

import json
import os
import pathlib
import sys

import numpy as np
from absl import app
from absl import flags
from benchmark import Process
from benchmark import matmul_rate
from benchmark import measure
from benchmark import summarize
from sklearn.linear_model import LinearRegression

from igpt_keras import presets
from igpt_keras import reports

# Width of a head.
HEAD = 32
COLOURS = 512
BASE = {"layers": 4, "width": 128, "tokens": 256}
SWEEPS = {
    "layers": (1, 2, 4, 8, 16),
    "width": (32, 64, 128, 256, 512),
    "tokens": (64, 256, 576, 1024, 2304, 4096),
}
REPLICAS = (1, 2, 4)


def define_flags():
    flags.DEFINE_integer("runs", 5, "Steps of each size.", lower_bound=5)
    flags.DEFINE_integer(
        "step_tokens",
        4096,
        "Tokens of a batch at most, of whole images.",
        lower_bound=4096,
    )
    flags.DEFINE_integer(
        "threads", 1, "Threads of each; 0 is TensorFlow's default."
    )
    flags.DEFINE_string("output", None, "JSON file to write.")
    flags.DEFINE_string("picture", None, "PNG to draw.")


def sizes(sweep, step_tokens):
    """By name what the process of each size of a sweep takes."""
    found = {}
    for value in SWEEPS[sweep]:
        size = {**BASE, sweep: value}
        found["{layers} x {width}, {tokens} tokens".format(**size)] = {
            **size,
            "heads": size["width"] // HEAD,
            "images": step_tokens // size["tokens"],
            "colours": COLOURS,
            "replicas": 1,
        }
    return found


def parts(size):
    """Amounts that a step's time goes by, by name."""
    names = {
        "vocabulary_size": size["colours"],
        "sequence_length": size["tokens"],
        "num_layers": size["layers"],
        "hidden_dim": size["width"],
        "batch_size": size["images"],
    }
    flops = presets.count_training_flops(**names)
    tokens = size["images"] * size["tokens"]
    # Of the causal half alone.
    attention = 6.0 * size["layers"] * size["tokens"] * size["width"] * tokens
    return {
        "matrix products": flops - 2 * attention,
        "attention": attention,
        "activations": size["layers"] * size["width"] * tokens,
        "logits": float(size["colours"] * tokens),
        "each layer": size["layers"],
        "each step": 1.0,
    }


def fit(amounts, seconds):
    """Rates of amounts `(M, P)` that give times `(M,)`, none below zero."""
    relative = np.asarray(amounts) / np.asarray(seconds)[:, None]
    # Amounts differ by many orders of magnitude.
    scale = relative.max(axis=0)
    regression = LinearRegression(fit_intercept=False, positive=True)
    regression.fit(relative / scale, np.ones(len(seconds)))
    return regression.coef_ / scale


def explain(names, by_size, seconds):
    """The two fits of times.

    Args:
        names: list of str, of the sizes.
        by_size: list of dicts of `parts`.
        seconds: list of float.

    Returns:
        dict of `names`; `flops_rate` and `flops_error`, of one rate for all;
        `parts_error`; for each size a dict of `seconds`, `by_flops`, `by_parts`
        and the `share` of each part. Errors are root mean squares of relative
        ones.
    """
    amounts = np.array([list(parts.values()) for parts in by_size])
    seconds = np.asarray(seconds)
    flops = amounts[:, :2].sum(axis=1, keepdims=True)
    by_flops = flops @ fit(flops, seconds)
    each = amounts * fit(amounts, seconds)
    by_parts = each.sum(axis=1)
    shares = each / by_parts[:, None]

    def error(predicted):
        return float(np.sqrt(np.mean((predicted / seconds - 1) ** 2)))

    return {
        "names": names,
        "flops_rate": float(flops[0, 0] / by_flops[0]),
        "flops_error": error(by_flops),
        "parts_error": error(by_parts),
        "sizes": [
            {
                "seconds": float(seconds[i]),
                "by_flops": float(by_flops[i]),
                "by_parts": float(by_parts[i]),
                "share": dict(zip(by_size[i], shares[i].tolist())),
            }
            for i in range(len(seconds))
        ],
    }


def write_table(found):
    """Rows of text of `explain`, and its errors."""
    columns = list(found["sizes"][0]["share"])
    lines = [
        f"{'':24}{'measured':>9}{'FLOPs':>9}{'parts':>9}  shares of "
        + ", ".join(columns)
    ]
    for name, row in zip(found["names"], found["sizes"]):
        times = [row[key] for key in ("seconds", "by_flops", "by_parts")]
        line = "".join(f"{time:9.3f}" for time in times)
        shares = "".join(f"{100 * x:5.0f}" for x in row["share"].values())
        lines.append(f"{name:24}{line} {shares} %")
    lines.append(
        f"one rate of {found['flops_rate'] / 1e9:.1f} GFLOP/s is off by "
        f"{found['flops_error']:.1%}, the parts by {found['parts_error']:.1%} "
        "(root mean square)"
    )
    return "\n".join(lines)


def draw(path, sweeps, found):
    """FLOPs a second of each size against an image's FLOPs, a line a sweep."""
    rows = dict(zip(found["names"], found["sizes"]))
    series = {}
    for sweep, by_name in sweeps.items():
        points = []
        for name, size in by_name.items():
            flops = parts(size)["matrix products"] + parts(size)["attention"]
            rate = flops / rows[name]["seconds"] / 1e9
            points.append((flops / size["images"], rate))
        series[sweep] = tuple(zip(*points))
    ends = [f(x for xs, _ in series.values() for x in xs) for f in (min, max)]
    series["one rate"] = ends, [found["flops_rate"] / 1e9] * 2
    reports.draw_chart(
        path,
        "a training step, as its size grows",
        "FLOPs of an image, attention's causal half",
        "GFLOP for each CPU second",
        series,
        logarithmic=True,
    )


def timed(by_name, runs, threads):
    """Least CPU seconds of each size's steps, taken in turns."""
    ways = {}
    try:
        for name, size in by_name.items():
            size = {**size, "threads": threads, "seed": 0}
            ways[name] = Process(sys.executable, "igpt_keras", size)
        rows = summarize(measure(ways, runs))
    finally:
        for steps in ways.values():
            steps.close()
    return {name: row["cpu_seconds"] for name, row in rows.items()}


def main(argv):
    del argv
    args = flags.FLAGS
    sweeps = {sweep: sizes(sweep, args.step_tokens) for sweep in SWEEPS}
    rate, by_name, times = matmul_rate(), {}, {}
    for sweep, of_sweep in sweeps.items():
        print(f"Timing {len(of_sweep)} sizes: {sweep}", flush=True)
        by_name |= of_sweep
        # One sweep at a time is in memory.
        times |= timed(of_sweep, args.runs, args.threads)
    found = explain(
        list(by_name),
        [parts(size) for size in by_name.values()],
        [times[name]["min"] for name in by_name],
    )
    threads, load = args.threads or "default", os.getloadavg()[0]
    print(
        f"{args.step_tokens} tokens a step, {COLOURS} colours, heads of "
        f"{HEAD}\nthreads: {threads}, load {load:.1f}, products of matrices at "
        f"{rate:.0f} GFLOP/s; CPU seconds\n{write_table(found)}"
    )
    base = next(x for x in by_name.values() if BASE.items() <= x.items())
    of_replicas = timed(
        {f"{n} replicas": {**base, "replicas": n} for n in REPLICAS},
        args.runs,
        args.threads,
    )
    first = next(iter(of_replicas.values()))["min"]
    for name, row in of_replicas.items():
        print(f"{name:24}{row['min']:9.3f} {row['min'] / first:5.2f} of one")
    if args.output:
        document = {
            "sizes": by_name,
            "cpu_seconds": times,
            "fit": found,
            "replicas": of_replicas,
            "matmul_gflops": rate,
            "load": load,
        }
        text = json.dumps(document, indent=1) + "\n"
        pathlib.Path(args.output).write_text(text)
    if args.picture:
        draw(args.picture, sweeps, found)


if __name__ == "__main__":
    define_flags()
    app.run(main)
