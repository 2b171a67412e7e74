def check_positive_ints(**values):
    """Raises a `ValueError` that names the first that is no int above 0."""
    for name, value in values.items():
        if not isinstance(value, int) or value < 1:
            raise ValueError(
                f"{name} must be a positive int, received {value!r}."
            )
