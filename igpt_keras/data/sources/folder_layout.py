import numpy as np

from igpt_keras.data.sources.picture_file import printable

# What datasets call the directories of their splits.
_SPLIT_OF = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}


class FolderLayout:
    """What the directories of a folder of pictures say of each picture.

    `train/`, `val/` and `test/` at the top, under these or their longer names,
    are splits, as in torchvision and TFDS; without `test/`, `val/` is test, as
    the paper has it of ImageNet. What is left at the top of a path is the
    class; pictures that have none are without labels.

    Args:
        path: directory, for messages.
        names: list of `pathlib.PurePath`, pictures as seen from `path`.

    Attributes:
        splits: array of str `(M,)`, the split that each picture is of, of
            `"train"`, `"validation"` and `"test"`. `None` if the folder does
            not say.
        labels: int32 array `(M,)`, -1 without labels.
        class_names: tuple of str, empty without labels.

    Raises:
        ValueError: if some pictures have a class and some do not, or some are
            in the directory of a split and some are not.
    """

    def __init__(self, path, names):
        parts = [name.parts for name in names]
        self.splits = _splits(path, parts)
        if self.splits is not None:
            parts = [inside[1:] for inside in parts]
        with_class = [len(inside) > 1 for inside in parts]
        if any(with_class) and not all(with_class):
            where = names[with_class.index(False)]
            raise ValueError(
                f"{path} has pictures both in subdirectories of classes and in "
                f"none, such as {printable(where)}. Put every picture in a "
                "class subdirectory, or none."
            )
        self.class_names = ()
        self.labels = np.full(len(names), -1, "int32")
        if any(with_class):
            classes, labels = np.unique(
                [inside[0] for inside in parts], return_inverse=True
            )
            self.class_names = tuple(map(printable, classes.tolist()))
            self.labels = labels.astype("int32")


def _splits(path, parts):
    top = {inside[0] for inside in parts if inside[1:]}
    found = {_SPLIT_OF.get(name.lower()) for name in top}
    # A class may be called "train"; hardly one beside it "test".
    if "train" not in found or not found & {"validation", "test"}:
        return None
    others = sorted(
        {inside[0] for inside in parts if _split_of(inside) is None}
    )
    if others:
        raise ValueError(
            f"{path} has directories of splits, such as train/, and "
            f"{printable(others[0])} beside them. Move it into one of them, or "
            "elsewhere."
        )
    splits = [_split_of(inside) for inside in parts]
    if "test" not in splits:
        splits = [{"validation": "test"}.get(name, name) for name in splits]
    return np.array(splits)


def _split_of(inside):
    return _SPLIT_OF.get(inside[0].lower()) if inside[1:] else None
