import json

from igpt_keras.data.order import ORDER_FORMAT
from igpt_keras.storage.json_file import write_json
from igpt_keras.storage.user_path import user_path


class RunDirectory:
    """Where a run goes, and continues from.

    Holds `config.json` (what the run depends on), `checkpoints/` (here or a
    level below), `progress.json`, `logs/` for TensorBoard, `metrics.json` and
    `preset/`.

    Args:
        path: path of the directory; `~` is the home directory. `None` for a
            run that is described and does not begin.
    """

    def __init__(self, path):
        self.path = None if path is None else user_path(path)

    def __str__(self):
        return str(self.path)

    def __truediv__(self, name):
        return self.path / name

    @property
    def started(self):
        """bool. Whether there are checkpoints to continue from."""
        return self.path is not None and any(
            self.path.rglob("checkpoints/epoch_*.npz")
        )

    def make(self):
        """Creates the directory, or makes sure that it can be written to.

        Raises:
            ValueError: if it cannot.
        """
        if self.path is None:
            raise ValueError("--run_dir says where the run goes: give one.")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            probe = self.path / ".writable"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ValueError(
                f"--run_dir cannot be written: {error}."
            ) from error

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

    def begin(self, config, images, without=("run_dir",)):
        """Starts a run here, or makes sure that it is this one that goes on.

        Args:
            config: dict of JSON values, all that the run depends on; it goes
                to `config.json`.
            images: str. Fingerprint of the training images, which goes there
                too, as does the way in which they are ordered.
            without: keys of `config` that the run does not depend on; they are
                left out. Defaults to its directory.

        Returns:
            bool. Whether there are checkpoints to continue from.

        Raises:
            ValueError: if the directory cannot be written, or holds a run with
                another config, on other images, or in another order of them.
        """
        self.make()
        path = self.path / "config.json"
        config = {k: v for k, v in config.items() if k not in without}
        config |= {"images": images, "order": ORDER_FORMAT}
        started = self.started
        if not started or not path.is_file():
            write_json(path, config)
            return started
        # As it is read back: tuples as lists.
        config = json.loads(json.dumps(config))
        saved = json.loads(path.read_text())
        if saved.pop("order", None) != config.pop("order"):
            raise ValueError(
                f"{self} holds a run of another version of igpt_keras, which "
                "took images in another order: this one cannot continue it. "
                "Start again in another --run_dir."
            )
        other_images = saved.pop("images", None) != config.pop("images")
        changed = [
            f"{key}: {saved.get(key)!r} then, {config.get(key)!r} here"
            for key in sorted(set(saved) | set(config))
            if saved.get(key) != config.get(key)
        ]
        if changed:
            raise ValueError(
                f"{self} holds a run with other settings ("
                + "; ".join(changed)
                + "). Use the same flags to continue it, or another --run_dir."
            )
        if other_images:
            raise ValueError(
                f"{self} holds a run on other training images: the dataset "
                "changed. Put it back to continue, or choose another "
                "--run_dir."
            )
        return True
