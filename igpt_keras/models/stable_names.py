import re


def stable_names(paths):
    """Names of variables that are the same in every process.

    Keras numbers layers without a name by how many there were before, in other
    models too; here they are numbered inside of what they are part of.

    Args:
        paths: list of str, with slashes.

    Returns:
        list of str.

    Raises:
        ValueError: if two paths are the same.
    """
    names, counts = {}, {}
    for path in paths:
        parts = path.split("/")
        for end in range(1, len(parts)):
            child = "/".join(parts[: end + 1])
            if child in names:
                continue
            parent = names.get("/".join(parts[:end]), parts[0])
            stem = re.sub(r"_\d+$", "", parts[end])
            number = counts[parent, stem] = counts.get((parent, stem), -1) + 1
            suffix = f"_{number}" if number else ""
            names[child] = f"{parent}/{stem}{suffix}"
    double = sorted({path for path in paths if paths.count(path) > 1})
    if double:
        raise ValueError(
            f"Two weights have the path {double[0]!r}. Give the layers of a "
            "block different names."
        )
    return [names.get(path, path) for path in paths]
