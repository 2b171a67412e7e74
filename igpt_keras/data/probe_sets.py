import dataclasses
import pathlib
import re

from igpt_keras.data.open_split import open_splits
from igpt_keras.data.token_sets import EvaluationSet

# What a run calls the probe of its own dataset.
OWN = "validation"


@dataclasses.dataclass(frozen=True)
class ProbeSets:
    """A dataset as a linear probe takes it.

    Attributes:
        name: str, in logs and reports.
        train: `EvaluationSet` to fit and choose on.
        validation: `EvaluationSet` to follow training on.
        test: `EvaluationSet` to report on at the end.
    """

    name: str
    train: EvaluationSet
    validation: EvaluationSet
    test: EvaluationSet


def open_probe_splits(
    splits,
    probe_datasets=None,
    input_resolution=None,
    data_dir=None,
    skip_bad_images=False,
    model_resolution=None,
):
    """Splits of all datasets that a run is to probe.

    Args:
        splits: dict of `Split` of the dataset that it trains on.
        probe_datasets: list of datasets, as `open_splits` takes them, each
            with splits and classes of its own. Defaults to the one that it
            trains on, by the name `"validation"`.
        input_resolution: int. Side of the images that the model trains on.
        data_dir: as for `open_splits`.
        skip_bad_images: as for `open_splits`.
        model_resolution: as for `open_splits`.

    Returns:
        dict of dicts of `Split`, by a name that is fit for files and tags:
        `cifar10`, `imagenet_resized_32x32`, of a path its last part.

    Raises:
        ValueError: as `open_splits`, and if two have the same name.
    """
    if probe_datasets is None:
        return {OWN: splits}
    opened = {}
    for dataset in probe_datasets:
        _, _, path = dataset.rpartition(":")
        name = pathlib.PurePath(path).name if path != dataset else dataset
        name = re.sub(r"[^\w.-]+", "_", name)
        if name in opened or name in ("", OWN):
            raise ValueError(
                f"--probe_datasets would call {dataset} {name!r}, which is "
                "another one's name. Leave it out, or rename its directory."
            )
        opened[name] = open_splits(
            dataset,
            input_resolution,
            data_dir,
            skip_bad_images,
            model_resolution,
        )
    return opened


def evaluation_sets(
    sets, splits, name, probe_images=None, evaluation_images=None
):
    """`ProbeSets` of three splits.

    Args:
        sets: `TokenSets` of the model.
        splits: dict of `Split`: `train`, `validation` and `test`. Of a
            `Mixture` the first source's images are taken.
        name: str.
        probe_images: int. Training images at most, of each class its share.
            Defaults to all.
        evaluation_images: int. Of validation and test, each at most. Defaults
            to all.
    """
    return ProbeSets(
        name,
        sets.evaluation(splits["train"].stratified(probe_images)),
        sets.evaluation(splits["validation"], evaluation_images),
        sets.evaluation(splits["test"], evaluation_images),
    )


def run_sets(
    sets, splits, probe_splits, probe_images=None, evaluation_images=None
):
    """The `ProbeSets` of a run: of its own dataset, and of all that it probes.

    Args:
        sets: as for `evaluation_sets`.
        splits: dict of `Split` of the dataset that it trains on.
        probe_splits: what `open_probe_splits` made of them.
        probe_images: as for `evaluation_sets`.
        evaluation_images: as for `evaluation_sets`.

    Returns:
        `(own, probe_sets)`: `ProbeSets`, and a list of them, in which `own`
        itself is where it is probed: its tokens are kept once.
    """

    def open_sets(name, splits):
        return evaluation_sets(
            sets, splits, name, probe_images, evaluation_images
        )

    own = open_sets(OWN, splits)
    return own, [
        own if others is splits else open_sets(name, others)
        for name, others in probe_splits.items()
    ]
