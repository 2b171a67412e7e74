"""What `LinearProbe` found in one probe."""


def chosen_accuracy(record, prefix=""):
    """Accuracy of the chosen layer.

    Args:
        record: dict of `LinearProbe.history`.
        prefix: `"neighbors_"` for that of nearest neighbours, of their own
            chosen layer. Defaults to `""`, the linear probe's.
    """
    place = record["layers"].index(record[f"{prefix}chosen_layer"])
    return record[f"{prefix}accuracy"][place]


def describe_record(record, last_layer):
    """A probe in two to four lines.

    Args:
        record: dict of `LinearProbe.history`.
        last_layer: int, L.
    """
    lines = [
        f"{record['name']}: {chosen_accuracy(record):.1%} +- "
        f"{record['standard_error']:.1%} on {record['test_images']} images at "
        f"layer {record['chosen_layer']} of {last_layer}, probed in "
        f"{record['seconds']:.1f} s",
        f"  chance, the largest class, {record['chance']:.1%}; the layer was "
        f"chosen on {record['held_out_images']} training images",
    ]
    if "neighbors" in record:
        accuracy = chosen_accuracy(record, "neighbors_")
        lines.append(
            f"  nearest neighbours {accuracy:.1%} at layer "
            f"{record['neighbors_chosen_layer']}"
        )
    others = [
        str(layer)
        for layer in record["tied_layers"]
        if layer != record["chosen_layer"]
    ]
    if others:
        lines.append(
            f"  no layer is best: within a standard error there also "
            f"{', '.join(others)}"
        )
    return "\n".join(lines)
