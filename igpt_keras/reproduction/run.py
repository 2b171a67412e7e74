import dataclasses
import json
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import time

from igpt_keras.program.subprogram import run_script
from igpt_keras.storage.json_file import write_json

# What a run that came to its end leaves beside its own files.
RECORD = "reproduce.json"
SECONDS = "reproduce_seconds.json"
# What pages are made of; last what says that a run is over.
RESULTS = ("metrics.json", "progress.json", RECORD)


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
        given = [f"--{name}={value}" for name, value in others.items()]
        words = []
        for name, value in self.flags.items():
            if isinstance(value, str):
                value = value.format(**directories)
            if name == "command":
                # A search hands them on.
                value, given = f"{value} {shlex.join(given)}".strip(), []
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
        ValueError: if it failed, another command's run is there, or a run that
            it needs has left numbers without weights.
    """
    root = pathlib.Path(root)
    directory, command = root / run.name, run.command(root, **others)
    if (directory / RECORD).is_file():
        record = json.loads((directory / RECORD).read_text())
        if record["command"] != command:
            raise ValueError(
                f"{directory} is of another command ({record['command']}). "
                "Remove it, or choose another --run_dir."
            )
        return
    for needed in run.needs:
        wanted = f"{{{needed.name}}}/preset" in run.flags.values()
        if wanted and not (root / needed.name / "preset").is_dir():
            raise ValueError(
                f"{run.name} needs the weights of {needed.name}, and "
                f"{root / needed.name} has none, as where its numbers were "
                "copied. Remove it, and it is run again."
            )
    path = pathlib.Path(recipes) / f"{run.recipe}.py"
    start, before = time.perf_counter(), _seconds(directory)
    try:
        completed = run_script(path, run.words(root, **others))
    finally:
        # Of a run that is stopped, the time counts too.
        seconds = before + time.perf_counter() - start
        if directory.is_dir():
            write_json(directory / SECONDS, seconds)
    record = {
        "command": command,
        "diverged": not completed,
        "seconds": seconds,
        "hardware": hardware(),
    }
    write_json(directory / RECORD, record)


def _seconds(directory):
    path = directory / SECONDS
    return json.loads(path.read_text()) if path.is_file() else 0.0


def hardware():
    """What this machine computes with, in words."""
    name = platform.processor() or platform.machine()
    path = pathlib.Path("/proc/cpuinfo")
    if path.is_file():
        lines = path.read_text().splitlines()
        models = [line for line in lines if line.startswith("model name")]
        if models:
            name = models[0].partition(":")[2].strip()
    found = f"{os.cpu_count()} cores of {name}"
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        names = subprocess.run(command, capture_output=True, text=True).stdout
        found = ", ".join([found, *names.split("\n")[:-1]])
    return found


def copy_results(runs, root, directory):
    """Copies what `read_results` reads, a directory a run.

    Args:
        runs: list of `Run`, of which those that came to their end are copied.
        root: path of the directory of all runs.
        directory: path of the directory of the copies, another root.

    Returns:
        list of str, the names of those.
    """
    copied = []
    for run in runs:
        source, copy = (pathlib.Path(d) / run.name for d in (root, directory))
        if not (source / RECORD).is_file():
            continue
        copy.mkdir(parents=True, exist_ok=True)
        for name in RESULTS:
            if (source / name).is_file():
                shutil.copyfile(source / name, copy / name)
        copied.append(run.name)
    return copied


def runs_without_copy(page, directory):
    """Runs whose numbers an earlier page has and nothing else.

    Args:
        page: path of its JSON, which may not be there.
        directory: path of `copy_results`.

    Returns:
        list of str.
    """
    if not page.is_file():
        return []
    names = [run["run"] for run in json.loads(page.read_text())["runs"]]
    return [name for name in names if not (directory / name).is_dir()]


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
