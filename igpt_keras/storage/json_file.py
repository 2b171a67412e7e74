import json

from igpt_keras.storage.atomic_file import atomic_file


def write_json(path, value):
    """Writes a JSON file, indented, whole or not at all."""
    text = json.dumps(value, indent=2) + "\n"
    with atomic_file(path) as file:
        file.write(text.encode())
