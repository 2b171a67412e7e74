"""What size a training budget is best spent on: IsoFLOP curves.

    python recipes/isoflop.py --budgets=3e11,1e12,3e12 --sizes=5 \
        --command="pretrain.py --dataset=digits --preset=igpt_nano" \
        --run_dir=runs/isoflop --output=runs/isoflop/page

At each budget networks of several sizes are pretrained, each for the steps that
the budget pays for; a parabola through their losses has its minimum at the size
to choose, and a line through the minima says how that grows (approach 2 of
Hoffmann et al., 2022; for pixels "Rethinking generative image pretraining",
arXiv 2511.08704). The same is asked of the probe's accuracy. All share the
flags of `--command` and one palette. Ctrl-C and the same command again
continue; runs that are over are not run again.
"""

import pathlib

from absl import flags

from igpt_keras import evaluation
from igpt_keras import program
from igpt_keras import reports
from igpt_keras import reproduction
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path
from igpt_keras.storage.writable_directory import make_writable_directory
from igpt_keras.terminal import command_line

RECIPES = pathlib.Path(__file__).parent
# What is fitted, and whether its optimum is the lowest or the highest.
FITTED = {"validation_nats": "min", "validation_accuracy": "max"}


def define_flags():
    flags.DEFINE_string(
        "command",
        None,
        "What is run: pretrain.py with --dataset, --preset and others, as "
        "--name=value, but no sizes, no --run_dir, no steps nor their periods.",
        required=True,
    )
    flags.DEFINE_list(
        "budgets", None, "FLOPs of training, such as 1e13,3e13,1e14."
    )
    flags.mark_flag_as_required("budgets")
    flags.register_validator(
        "budgets",
        are_budgets,
        message="expected FLOPs that differ, such as --budgets=1e13,3e13,1e14",
    )
    for name, default, least, explanation in (
        ("sizes", 5, 2, "Sizes at each budget; a parabola needs 3."),
        ("min_layers", 2, 1, "Layers of the smallest size."),
        ("max_layers", 8, 1, "Layers of the largest size."),
        ("aspect_ratio", 16, 1, "Width over layers; the width of a head."),
    ):
        flags.DEFINE_integer(name, default, explanation, lower_bound=least)
    flags.DEFINE_string("run_dir", "runs/isoflop", "Where runs go.")
    flags.DEFINE_string(
        "output", "results/isoflop", "Directory of page, picture and numbers."
    )
    flags.DEFINE_bool("dry_run", False, "Print the plan, and train nothing.")
    flags.DEFINE_float(
        "throughput",
        None,
        "FLOPs a second that the device does, for the plan to say how long.",
        lower_bound=1,
    )


def main(args):
    command = reproduction.read_pretraining(args.command)
    root = user_path(args.run_dir)
    needs, tokens, plan = make_plan(args, command, root)
    if not args.dry_run:
        make_writable_directory(root, "--run_dir")
        output = make_writable_directory(args.output, "--output")
        for run in needs:
            reproduction.execute(run, root, RECIPES, {})
        needs, tokens, plan = make_plan(args, command, root)
    rows = reports.isoflop_plan(plan, args.throughput)
    print(reports.table(rows), flush=True)
    if args.dry_run:
        if needs and not (root / needs[0].name / "palette.npy").is_file():
            colours = tokens["vocabulary_size"]
            print(f"Of {colours} colours; the fitted palette may have fewer.")
        return
    runs = [*needs, *(member["run"] for member in plan)]
    try:
        for place, run in enumerate(runs, 1):
            print(f"\nRun {place} of {len(runs)}: {run.name}", flush=True)
            reproduction.execute(run, root, RECIPES, {})
    finally:
        # Of a run that failed, what is over is drawn nevertheless.
        resolution = tokens["input_resolution"]
        title = f"IsoFLOP curves of {command['dataset']}"
        draw(output, f"{title} at {resolution}x{resolution}", plan, runs, root)


def make_plan(args, command, root):
    needs, given, tokens = reproduction.shared_tokens(command, root)
    plan = reproduction.plan_isoflop(
        [float(x) for x in args.budgets],
        program.call(reproduction.isoflop_sizes, args, count=args.sizes),
        given,
        tokens["vocabulary_size"],
        tokens["model_resolution"],
        tuple(needs),
    )
    return needs, tokens, plan


def are_budgets(budgets):
    try:
        numbers = [float(budget) for budget in budgets or ()]
    except ValueError:
        return False
    distinct = len(set(numbers)) == len(numbers) > 0
    return distinct and all(0 < x < float("inf") for x in numbers)


def draw(output, title, plan, runs, root):
    """Writes the page of the runs that are over."""
    results = reproduction.read_results(runs, root)
    points = reproduction.isoflop_points(plan, results)
    fits = {}
    for name, mode in FITTED.items():
        found = [point for point in points if point[name] is not None]
        columns = ("budget", "parameters", "tokens", name)
        arrays = [[point[key] for point in found] for key in columns]
        fits[name] = evaluation.fit_isoflop(*arrays, mode)
    reports.draw_isoflop(output / "isoflop.png", points, fits)
    records = [x["record"] for x in results.values()]
    reports.write_isoflop_page(
        output / "isoflop.md",
        title,
        points,
        fits,
        sum(record["seconds"] for record in records),
        " and ".join(sorted({record["hardware"] for record in records})),
        [command_line(), *(run.command(root) for run in runs)],
    )
    write_json(output / "isoflop.json", {"points": points, "fits": fits})
    left = {"isoflop.md": "curves, optima, exponents, and what is left out"}
    left |= {"isoflop.png": "the curves", "isoflop.json": "the numbers"}
    print(f"\n{reports.files_left(output, left)}")


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
