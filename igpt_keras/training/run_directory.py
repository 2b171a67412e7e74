import json
import sys

from igpt_keras.data.order import ORDER_FORMAT
from igpt_keras.storage.checkpoint_directory import DamagedCheckpoint
from igpt_keras.storage.checkpoint_directory import read_manifest
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path
from igpt_keras.storage.writable_directory import make_writable_directory

# Flags that say where, how often and what is shown, and change no weight.
NOT_OF_A_RUN = (
    *("run_dir", "strategy", "tpu", "micro_batches", "steps_per_call"),
    *("remat", "num_devices", "device_memory"),
    *("data_parallel", "model_parallel"),
    *("job_addresses", "num_processes", "process_id"),
    *("checkpoint_minutes", "checkpoint_steps", "log_every"),
    *("allow_config_change", "dry_run", "milestones", "pictures", "beside"),
    *("probe_datasets", "probe_every", "probe_layers", "probe_neighbors"),
    # Of the evaluation at the end.
    "num_masks",
    # Its effect is in the resolution.
    "interpolate_positions",
)
# Settings that a run may go on with another value of.
MAY_CHANGE = (
    *("steps", "learning_rate", "warmup_steps", "weight_decay", "clip_norm"),
    "patience",
)


class RunDirectory:
    """Where a run goes, and continues from.

    Holds `config.json` (what the run depends on), `checkpoints/` (here, or in
    directories without a `config.json`, of parts of the run), `progress.json`,
    `logs/` for TensorBoard, `metrics.json` and `preset/`.

    Args:
        path: path of the directory; `~` is the home directory. `None` for a
            run that is described and does not begin.
        writes: bool. Whether this process writes there; of several workers one
            does. Defaults to `True`.
    """

    def __init__(self, path, writes=True):
        self.given = path
        self.path = None if path is None else user_path(path)
        self.writes = writes
        self.config = None

    def __str__(self):
        return str(self.path)

    def __truediv__(self, name):
        return self.path / name

    @property
    def started(self):
        """bool. Whether there are checkpoints to continue from."""
        return self.path is not None and any(self._manifests("*"))

    def begun_with(self):
        """What the run depends on, a dict as `begin` was given it.

        Raises:
            ValueError: if nothing says so.
        """
        return self._saved_config()

    def make(self):
        """Creates the directory, or makes sure that it can be written to.

        Raises:
            ValueError: if it cannot.
        """
        if self.path is None:
            raise ValueError("--run_dir says where the run goes: give one.")
        if "://" in str(self.given):
            raise ValueError(
                f"--run_dir={self.given} is no directory of this machine. "
                "Mount the bucket, with gcsfuse for example, and pass where."
            )
        if self.writes:
            make_writable_directory(self.path, "--run_dir")

    def make_for_results(self):
        """`make`, for what is no run: results replace those of before.

        Raises:
            ValueError: if there is a run, or a model, whose own palette would
                be lost.
        """
        for name in ("checkpoints", "config.json"):
            if (self.path / name).exists():
                raise ValueError(
                    f"{self} holds a pretraining run or a model, whose own "
                    "palette would be lost. Use another --run_dir."
                )
        self.make()

    def begin(self, config, images):
        """Starts a run here, or makes sure that it is this one that goes on.

        Args:
            config: dict of JSON values, all that the run depends on; without
                `NOT_OF_A_RUN` it goes to `config.json`, and stays in `config`.
                Under `allow_config_change`, keys of `MAY_CHANGE` that may
                differ from what the run was begun with; what differed is
                recorded as `changes`.
            images: str. Fingerprint of the training images, which goes there
                too, as does the way in which they are ordered.

        Returns:
            bool. Whether there are checkpoints to continue from.

        Raises:
            ValueError: if the directory cannot be written, or holds a run with
                another config, on other images, or in another order of them.
        """
        self.make()
        allowed = config.get("allow_config_change", ())
        config = {k: v for k, v in config.items() if k not in NOT_OF_A_RUN}
        config |= {"images": images, "image_order": ORDER_FORMAT}
        # As it is read back: tuples as lists.
        self.config = json.loads(json.dumps(config))
        started = self.started
        saved = self._saved_config() if started else None
        if saved is not None:
            changes = self._check_same(saved, allowed)
            if changes:
                self.config["changes"] = changes
        if self.writes:
            write_json(self.path / "config.json", self.config)
        return started

    def _manifests(self, names):
        """Those of checkpoints; not of other runs, a level below."""
        below = [
            path
            for path in self.path.glob("*")
            if path.is_dir() and not (path / "config.json").exists()
        ]
        for directory in (self.path, *below):
            yield from directory.glob(f"checkpoints/{names}/manifest.json")

    def _check_same(self, saved, allowed):
        """The changes so far, or a `ValueError` if there are others."""
        unknown = sorted(set(allowed) - set(MAY_CHANGE))
        if unknown:
            raise ValueError(
                f"--allow_config_change={unknown[0]} would be another run. "
                f"What may change is {', '.join(MAY_CHANGE)}."
            )
        config, saved = dict(self.config), dict(saved)
        changes = saved.pop("changes", [])
        if saved.pop("image_order", None) != config.pop("image_order"):
            raise ValueError(
                f"{self} holds a run of another version of igpt_keras, which "
                "took images in another order: this one cannot continue it. "
                "Start again in another --run_dir."
            )
        other_images = saved.pop("images", None) != config.pop("images")
        changed = [
            key
            for key in sorted(set(saved) | set(config))
            if saved.get(key) != config.get(key)
        ]
        differences = [
            f"{key}: {saved.get(key)!r} then, {config.get(key)!r} here"
            for key in changed
            if key not in allowed
        ]
        if differences:
            may = [key for key in changed if key in MAY_CHANGE]
            hint = ""
            if may:
                hint = f" --allow_config_change={','.join(may)} lets that be."
            others = [
                f"--{key}={saved.get(key)}"
                for key in changed
                if key not in MAY_CHANGE
            ]
            if may and others:
                hint += f" The rest must stay: {' '.join(others)}."
            raise ValueError(
                f"{self} holds a run with other settings ("
                + "; ".join(differences)
                + "). Use the same flags to continue it, or another --run_dir."
                + hint
            )
        if other_images:
            raise ValueError(
                f"{self} holds a run on other training images: the dataset "
                "changed. Put it back to continue, or choose another "
                "--run_dir."
            )
        return changes + [
            {"key": key, "from": saved.get(key), "to": config.get(key)}
            for key in changed
        ]

    def _saved_config(self):
        """What the run was begun with; `None` if nothing says so."""
        path = self.path / "config.json"
        try:
            saved = json.loads(path.read_text())
            if not isinstance(saved, dict):
                raise ValueError(f"it holds a {type(saved).__name__}")
            return saved
        except (OSError, ValueError) as error:
            sys.stdout.write(
                f"{path} cannot be read ({error}): the settings are taken from "
                "the checkpoints.\n"
            )
        manifests = sorted(
            self._manifests("step_*"),
            key=lambda path: path.parent.name,
            reverse=True,
        )
        for manifest in manifests:
            try:
                config = read_manifest(manifest.parent)["config"]
            except DamagedCheckpoint:
                continue
            if config is not None:
                return config
        raise ValueError(
            f"{path} is lost, and no whole checkpoint in {self} says what the "
            "run was begun with. Start again in another --run_dir."
        )
