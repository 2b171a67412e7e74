import shutil
import sys

from igpt_keras.storage.checkpoint_directory import DamagedCheckpoint
from igpt_keras.storage.checkpoint_directory import copy_checkpoint
from igpt_keras.storage.checkpoint_directory import read_checkpoint
from igpt_keras.storage.checkpoint_directory import read_manifest
from igpt_keras.storage.checkpoint_directory import write_checkpoint
from igpt_keras.storage.checkpoint_directory import write_manifest

# Checkpoints that stay, beside the best one.
_NEWEST = 2


class KeptCheckpoints:
    """The checkpoints of one run: the two newest, the best, and milestones.

    `step_0000000300` and so on, and `best`, a copy. Of what a manifest holds,
    read here are `step`, `epoch` (finished ones), `step_in_epoch`, `value` (of
    the epoch that ended there; `None` until it is known), `best_value` and
    `best_epoch` (of all epochs so far).

    Args:
        directory: `Path`, where they go.
        keep: ints. Epochs, from 1, whose checkpoints stay beside.
        sign: 1 if a lower value is better, or -1.
    """

    def __init__(self, directory, keep, sign):
        self.directory = directory
        self.keep = keep
        self.sign = sign

    def write(self, arrays, manifest):
        """Writes a checkpoint, and removes those that are not kept any more.

        Raises:
            OSError: if it cannot be written; none is removed then.
        """
        self.directory.mkdir(parents=True, exist_ok=True)
        write_checkpoint(self.path(manifest["step"]), arrays, manifest)
        for old in self._steps()[_NEWEST:]:
            if self._stays(old):
                continue
            try:
                shutil.rmtree(old)
            except OSError as error:
                sys.stderr.write(
                    f"\n{old} is not needed any more, and cannot be removed "
                    f"({error}). It is tried again with the next one.\n"
                )

    def finish(self, step, changes):
        """Notes what became known of an epoch's checkpoint after it.

        Args:
            step: int, of the checkpoint, which is there.
            changes: dict of JSON values of its manifest.

        Returns:
            bool. Whether it is the best of all that were written, and so a
            copy of it is `best` now.
        """
        path = self.path(step)
        manifest = {**read_manifest(path), **changes}
        write_manifest(path, manifest)
        value = _value(manifest)
        if value is None:
            return False
        try:
            held = _value(read_manifest(self.best))
        except DamagedCheckpoint:
            held = None
        # What is there, and not what ever was: that may have been lost.
        is_best = held is None or self.sign * value < self.sign * held
        if is_best:
            copy_checkpoint(path, self.best)
        return is_best

    def remove_half_written(self):
        """Removes what a process that was killed has left, and says so."""
        for left in self.directory.glob(".*-*"):
            sys.stdout.write(f"Removing {left}, which is half written.\n")
            shutil.rmtree(left, ignore_errors=True)

    def read_newest(self):
        """Reads the newest whole checkpoint; what was lost since is said.

        Returns:
            `(path, arrays, manifest)`, or `None` if there is no checkpoint.

        Raises:
            ValueError: if none of them is whole.
        """
        damaged = []
        for path in self._by_age():
            try:
                arrays, manifest = read_checkpoint(path)
            except DamagedCheckpoint as error:
                damaged.append(str(error))
                continue
            for text in damaged:
                sys.stdout.write(f"{text}: an earlier checkpoint is used.\n")
            return path, arrays, manifest
        if damaged:
            raise ValueError(
                "No whole checkpoint to resume from: " + "; ".join(damaged)
            )
        return None

    def read_best(self):
        """Reads the checkpoint of the best epoch.

        Where that was never written, for want of space for example, it is the
        best of those that were, which is said.

        Returns:
            `(path, arrays, manifest)`, or `None` if no epoch had a value.

        Raises:
            ValueError: if the best one was damaged.
        """
        manifests, damaged = {}, []
        for path in (self.best, *self._steps()):
            if not path.is_dir():
                continue
            try:
                manifests[path] = read_manifest(path)
            except DamagedCheckpoint as error:
                damaged.append(str(error))
        newest = max(manifests.values(), key=lambda m: m["step"], default={})
        wanted = newest.get("best_epoch")
        found = [p for p, m in manifests.items() if _value(m) is not None]
        found.sort(key=lambda path: self.sign * _value(manifests[path]))
        for path in found:
            is_best = manifests[path]["epoch"] == wanted
            if damaged and not is_best:
                break
            try:
                arrays, manifest = read_checkpoint(path)
            except DamagedCheckpoint as error:
                damaged.append(str(error))
                continue
            if not is_best:
                sys.stdout.write(
                    f"Epoch {wanted} was better ({newest['best_value']:.4g}), "
                    "but its checkpoint could not be written: the best of "
                    f"those that were is of epoch {manifest['epoch']} "
                    f"({_value(manifest):.4g}).\n"
                )
            return path, arrays, manifest
        if damaged:
            raise ValueError(
                "No whole checkpoint of the best weights: "
                + "; ".join(damaged)
                + "."
            )
        return None

    @property
    def best(self):
        return self.directory / "best"

    def path(self, step):
        return self.directory / f"step_{step:010d}"

    def _stays(self, path):
        try:
            manifest = read_manifest(path)
        except DamagedCheckpoint:
            return False
        return not manifest["step_in_epoch"] and manifest["epoch"] in self.keep

    def _steps(self):
        """Checkpoints, the newest first."""
        return sorted(self.directory.glob("step_*"), reverse=True)

    def _by_age(self):
        """What to continue from: the newest first, the best where it stands."""
        steps = self._steps()
        if not self.best.is_dir():
            return steps
        try:
            place = self.path(read_manifest(self.best)["step"])
        except DamagedCheckpoint:
            return [*steps, self.best]
        return sorted(
            [*steps, self.best],
            key=lambda path: (
                place if path == self.best else path,
                path != self.best,
            ),
            reverse=True,
        )


def _value(manifest):
    """What an epoch is compared by, or `None`."""
    if manifest["step_in_epoch"] or not manifest["evaluated"]:
        return None
    # Checkpoints from before this was noted say it of the best only.
    is_best = manifest["epoch"] == manifest["best_epoch"]
    return manifest.get("value", manifest["best_value"] if is_best else None)
