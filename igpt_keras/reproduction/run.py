import dataclasses
import json
import os
import pathlib
import platform
import shlex
import time

from igpt_keras.program.subprogram import run_script
from igpt_keras.storage.json_file import write_json

# What a run that came to its end leaves beside its own files.
RECORD = "reproduce.json"


@dataclasses.dataclass(frozen=True)
class Run:
    """A recipe's command, and the run directory that it leaves.

    Attributes:
        name: str. Of its directory; runs of one name are one run.
        recipe: str, such as `"pretrain"`.
        flags: dict of the recipe's flags but `run_dir`. In a text `{NAME}` is
            the directory of the run of that name.
        needs: tuple of `Run`, which come first.
    """

    name: str
    recipe: str
    flags: dict
    needs: tuple = ()

    def words(self, root, **others):
        """The flags as words, for runs in a directory `root`.

        `others` are flags that every recipe takes.
        """
        directories = {run.name: str(root / run.name) for run in self.needs}
        flags = dict(self.flags)
        given = [f"--{name}={value}" for name, value in others.items()]
        if "command" in flags:
            # A search hands them on.
            flags["command"] = " ".join([flags["command"], *given])
            given = []
        words = []
        for name, value in flags.items():
            if isinstance(value, str):
                value = value.format(**directories)
            words.append(f"--{name}" if value is True else f"--{name}={value}")
        return [*words, *given, f"--run_dir={root / self.name}"]

    def command(self, root, **others):
        """The command as a user types it."""
        words = ["python", f"recipes/{self.recipe}.py"]
        return shlex.join([*words, *self.words(root, **others)])


def in_order(runs):
    """Runs and all that they need, each once, and after what it needs."""
    found = {}
    for run in runs:
        for needed in in_order(run.needs):
            found.setdefault(needed.name, needed)
        found.setdefault(run.name, run)
    return list(found.values())


def execute(run, root, recipes, others):
    """Runs a recipe to its end, unless it came to its end before.

    Args:
        run: `Run`.
        root: path of the directory of all runs.
        recipes: path of the directory of the recipes.
        others: dict of flags that every recipe takes, such as `data_dir`.

    Raises:
        ValueError: if it failed, or diverged where that is no result.
    """
    directory = pathlib.Path(root) / run.name
    if (directory / RECORD).is_file():
        return
    start = time.perf_counter()
    path = pathlib.Path(recipes) / f"{run.recipe}.py"
    completed = run_script(path, run.words(pathlib.Path(root), **others))
    record = {
        "command": run.command(pathlib.Path(root), **others),
        "diverged": not completed,
        "seconds": time.perf_counter() - start,
        "hardware": hardware(),
    }
    write_json(directory / RECORD, record)


def hardware():
    """What this machine computes with, in words."""
    name = platform.processor() or platform.machine()
    path = pathlib.Path("/proc/cpuinfo")
    if path.is_file():
        lines = path.read_text().splitlines()
        models = [line for line in lines if line.startswith("model name")]
        if models:
            name = models[0].partition(":")[2].strip()
    return f"{os.cpu_count()} cores of {name}"


def read_results(runs, root):
    """What runs left.

    Args:
        runs: list of `Run`.
        root: path of the directory of all runs.

    Returns:
        dict by name of those that came to their end: what is in
        `metrics.json`, with `progress.json` as `progress`, if there is one, and
        `record`. Runs that diverged have the last two alone.
    """
    results = {}
    for run in runs:
        directory = pathlib.Path(root) / run.name
        record = directory / RECORD
        if not record.is_file():
            continue
        found = {"record": json.loads(record.read_text())}
        for key, name in (
            ("progress", "progress.json"),
            (None, "metrics.json"),
        ):
            path = directory / name
            if path.is_file():
                content = json.loads(path.read_text())
                found |= content if key is None else {key: content}
        results[run.name] = found
    return results
