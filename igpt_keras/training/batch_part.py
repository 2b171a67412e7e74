def batch_part(tensor, part, count):
    """One of `count` parts of a batch."""
    rows = tensor.shape[0]
    if rows is None or rows % count:
        raise ValueError(
            f"A replica's {rows or 'unknown number of'} images do not divide "
            f"into micro_batches={count}. Choose another number."
        )
    size = rows // count
    return tensor[part * size : (part + 1) * size]
