import numpy as np


def assign_splits(labels, test_share, validation_share, given=None):
    """Split of each example: the first of each class are test, and so on.

    Every class gives its share, rounded. Where that leaves a class without
    validation, what has been given up to and including each class is rounded
    instead, so that small classes give their share together; where no class
    is large enough to give any, they are split as if they were one.

    Splits that are `given`, an array of str, stay as they are; without
    validation there, train gives its share.
    """
    if given is not None:
        splits = given.astype("U10")
        if "validation" not in given:
            train = given == "train"
            splits[train] = assign_splits(labels[train], 0, validation_share)
        return splits
    splits = np.full(len(labels), "train", dtype="U10")
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    sizes = np.array([len(group) for group in groups], dtype="int64")
    if np.rint(validation_share * sizes.max(initial=0)) == 0:
        groups, sizes = [np.arange(len(labels))], np.array([len(labels)])
    tests = np.rint(test_share * sizes).astype(int)
    validations = np.rint(validation_share * (sizes - tests)).astype(int)
    if len(sizes) > 1 and validations.min() == 0:
        tests = _round_together(test_share * sizes)
        validations = _round_together(validation_share * (sizes - tests))
    for group, num_test, num_validation in zip(groups, tests, validations):
        splits[group[:num_test]] = "test"
        splits[group[num_test : num_test + num_validation]] = "validation"
    return splits


def _round_together(shares):
    """Integers that are no further than 1 from `shares`, as are their sums."""
    return np.diff(np.rint(np.cumsum(shares)), prepend=0).astype(int)
