import pathlib


def table(rows):
    """Text in columns: the first flush left, the others flush right.

    Args:
        rows: list of lists of str, as many in each; heads are the first.
    """
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = []
    for first, *others in rows:
        cells = [first.ljust(widths[0])]
        cells += [text.rjust(n) for text, n in zip(others, widths[1:])]
        lines.append("   ".join(cells).rstrip())
    return "\n".join(lines)


def markdown_table(rows):
    """Rows of text as a table of Markdown.

    Args:
        rows: list of lists of str, as many in each; heads are the first.
    """
    head, *others = rows
    lines = [head, ["---"] * len(head), *others]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def duration(seconds):
    """Seconds in the unit that suits, as text."""
    for name, size in (("days", 86_400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {name}"
    return f"{seconds:.0f} seconds"


def files_left(directory, files):
    """What a run left, a line each of what is there.

    Args:
        directory: path.
        files: dict of what it is by name.
    """
    width = max(map(len, files))
    lines = [f"In {directory}:"]
    for name, what in files.items():
        if (pathlib.Path(directory) / name).exists():
            lines.append(f"  {name:{width}} {what}")
    return "\n".join(lines)


def describe_splits(splits):
    """How many images and classes there are, of what, and which were left out.

    Args:
        splits: dict of `Split` by name, or of `Mixture`, which stands first.
    """
    sizes = [f"{len(split):,} {name}" for name, split in splits.items()]
    # What follows is of the whole dataset, in every split.
    split = next(iter(splits.values()))
    classes = "without labels"
    if split.class_names:
        classes = f"of {len(split.class_names):,} classes"
    lines = [f"{', '.join(sizes)} images {classes}"]
    if len(split.shares) > 1:
        lines.append("Trained on in shares:")
        for source, share in split.shares:
            images = f"{len(source):,} images"
            lines.append(f"  {100 * share:.4g} % {source.name}, {images}")
        first, _ = split.shares[0]
        lines.append(f"Classes, validation and test are of {first.name}.")
    if split.skipped:
        lines.append(f"Left out {len(split.skipped)} pictures:")
        lines += [f"  {reason}" for reason in split.skipped]
    if split.other_files:
        lines.append("Not read, as no pictures that are known here:")
        lines += [f"  {kind}" for kind in split.other_files]
    return "\n".join(lines)
