"""A figure, table or section of the paper beside ours, or a study of our own.

    python recipes/reproduce.py --figure=2 --scale=laptop \
        --data_dir=tensorflow_datasets
    python recipes/reproduce.py --table=4 --scale=paper --dry_run

Runs the recipes that it is made of, each in a directory of its own under
`--run_dir`, and draws their results into `--output`, with a copy of their
numbers in `runs` there, which the page is drawn from: a run that is not over
here is drawn from the copy of another machine, if there is one. Runs that are
over are not run again, and one that was stopped continues: so that the same
command goes on.
"""

import pathlib

from absl import flags

from igpt_keras import program
from igpt_keras import reproduction
from igpt_keras.storage.user_path import user_path

RECIPES = pathlib.Path(__file__).parent
KINDS = {
    kind: [
        name.removeprefix(f"{kind}_")
        for name in reproduction.PAGES
        if name.startswith(kind)
    ]
    for kind in ("figure", "table", "section", "study")
}


def define_flags():
    for kind, names in KINDS.items():
        whose = "Ours" if kind == "study" else "The paper's"
        flags.DEFINE_enum(kind, None, names, f"{whose}: a {kind}.")
    flags.register_multi_flags_validator(
        list(KINDS),
        lambda values: sum(v is not None for v in values.values()) == 1,
        message="pass one of --figure, --table, --section and --study",
    )
    flags.DEFINE_enum(
        "scale",
        "laptop",
        list(reproduction.SCALES),
        "laptop: CIFAR-10 at 8x8, two cores. gpu: CIFAR-10, one accelerator. "
        "paper: what the paper ran.",
    )
    flags.DEFINE_integer(
        "seeds",
        1,
        "Seeds of what is compared, from 0: of pretraining, and of what is "
        "done with it. Searches, and pretraining for few labels, have one.",
        lower_bound=1,
    )
    flags.DEFINE_string(
        "data_dir", None, "Directory of prepared TFDS datasets."
    )
    flags.DEFINE_string("run_dir", "runs/reproduce", "Where runs go.")
    flags.DEFINE_string("output", "results", "Where the page goes.")
    flags.DEFINE_bool("draw", False, "Draw what is over, and run nothing.")
    flags.DEFINE_bool("dry_run", False, "Print commands and their price.")
    flags.DEFINE_float(
        "throughput",
        None,
        "FLOPs a second that a device does, for prices. Defaults to 3e10 "
        "(laptop), 1e13 (gpu) and 1e14 (paper).",
        lower_bound=1,
    )


def main(args):
    given = zip(KINDS, (args.figure, args.table, args.section, args.study))
    (name,) = (f"{kind}_{value}" for kind, value in given if value is not None)
    seeds = range(args.seeds)
    pages = {
        scale: reproduction.PAGES[name](reproduction.SCALES[scale], seeds)
        for scale in (args.scale, "paper")
    }
    page = pages[args.scale]
    root = user_path(args.run_dir) / args.scale
    runs = reproduction.in_order(page.runs)
    others = {} if args.data_dir is None else {"data_dir": args.data_dir}
    if args.dry_run:
        given = args.throughput or reproduction.SCALES[args.scale].throughput
        print(reproduction.describe_prices(runs, root, others, given))
        return

    def draw():
        output = user_path(args.output)
        copies = output / "runs" / args.scale
        here = reproduction.copy_results(runs, root, copies)
        drawn = output / f"{name}_{args.scale}.json"
        if lost := reproduction.runs_without_copy(drawn, copies):
            return (
                f"{drawn} is left as it is: of {', '.join(lost)} in it there "
                f"is no copy in {copies}. Choose another --output."
            )
        results = reproduction.read_results(runs, copies)
        if elsewhere := [name for name in results if name not in here]:
            print(f"\nFrom earlier copies in {copies}: {', '.join(elsewhere)}.")
        return reproduction.write_page(
            output,
            f"{name}_{args.scale}",
            args.scale,
            page,
            results,
            root,
            others,
            pages["paper"],
            args.throughput or reproduction.SCALES["paper"].throughput,
        )

    try:
        for place, run in enumerate([] if args.draw else runs, 1):
            print(f"\nRun {place} of {len(runs)}: {run.name}", flush=True)
            reproduction.execute(run, root, RECIPES, others)
    finally:
        # Of a run that failed, what is over is drawn nevertheless.
        print(f"\n{draw()}", flush=True)


if __name__ == "__main__":
    program.start(main, define_flags, "Stopped. The same command continues.")
