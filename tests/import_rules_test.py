"""Imports go one way, and importing does nothing else."""

import ast
import pathlib

import pytest
from conftest import ROOT

# What each part of the package may import of the others.
ALLOWED = {
    "__main__": {"version"},
    "version": set(),
    "terminal": set(),
    "presets": {"storage"},
    "backend": set(),
    "storage": set(),
    "probes": {"backend", "terminal"},
    "program": set(),
    "layers": {"backend"},
    "data": {"storage", "backend", "terminal"},
    "tokenizers": {
        "layers",
        "presets",
        "storage",
        "backend",
        "terminal",
        "version",
    },
    "models": {"layers", "presets", "storage", "backend", "version"},
    "codec": {"models", "terminal"},
    "conversion": {"models", "presets", "storage", "terminal", "tokenizers"},
    "generation": {"conversion", "data", "layers", "models", "terminal"},
    "reports": {
        "layers",
        "models",
        "presets",
        "storage",
        "terminal",
        "version",
    },
    "callbacks": {"probes", "reports", "storage", "backend", "version"},
    "evaluation": {"probes", "models", "terminal", "tokenizers"},
    "reproduction": {"presets", "program", "reports", "storage", "training"},
    "training": {
        "data",
        "models",
        "probes",
        "tokenizers",
        "callbacks",
        "program",
        "presets",
        "storage",
        "terminal",
        "backend",
    },
}
LAZY = {"tensorflow", "tensorflow_datasets", "keras_cv", "jax"}


def imports(tree):
    """(line's column, module) of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.col_offset, alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.col_offset, f"{node.module}.{alias.name}"


def sources(*directories):
    for directory in directories:
        yield from sorted((ROOT / directory).rglob("*.py"))


@pytest.mark.parametrize("part", ALLOWED)
def test_parts_import_what_they_may(part):
    paths = [
        path
        for path in sources("igpt_keras")
        if path.relative_to(ROOT / "igpt_keras").parts[0].removesuffix(".py")
        == part
    ]
    assert paths
    for path in paths:
        for _, module in imports(ast.parse(path.read_text())):
            names = module.split(".")
            if names[0] == "igpt_keras":
                assert names[1] in ALLOWED[part] | {part}, (path, module)


def test_every_part_has_a_rule():
    parts = {
        path.name.removesuffix(".py")
        for path in (ROOT / "igpt_keras").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert parts - {"__init__"} == set(ALLOWED)


def test_nothing_imports_recipes_tools_or_private_keras():
    local = {p.stem for p in sources("recipes", "tools")}
    for path in sources("igpt_keras"):
        for column, module in imports(ast.parse(path.read_text())):
            names = module.split(".")
            assert names[0] not in local | {"recipes", "tools"}, path
            assert not module.startswith("keras.src"), path
            # Heavy or optional packages are imported where they are used.
            assert names[0] not in LAZY or column > 0, (path, module)


def test_settings_never_leave_a_script():
    """Functions of the package take plain arguments."""
    for path in sources("igpt_keras"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.FunctionDef, ast.Lambda)):
                arguments = [
                    *node.args.posonlyargs,
                    *node.args.args,
                    *node.args.kwonlyargs,
                ]
                names = {argument.arg for argument in arguments}
                assert "settings" not in names, f"{path}:{node.lineno}"


# A recipe may be another with other defaults, and then imports that one.
VARIANTS = {"pretrain_tpu": {"pretrain"}, "pretrain_jax": {"pretrain"}}


def test_recipes_are_scripts():
    """Flags and a story of 60 to 150 lines; each can be run."""
    paths = list(sources("recipes"))
    names = {path.stem for path in paths}
    assert len(paths) >= 5
    for path in paths:
        text = path.read_text()
        tree = ast.parse(text)
        assert len(text.splitlines()) <= 150, path
        assert (
            text.endswith("\n") and "program.start(main, define_flags" in text
        )
        found = {module.split(".")[0] for _, module in imports(tree)}
        assert found & names <= VARIANTS.get(path.stem, set()), path
        functions = {
            node.name: node.end_lineno - node.lineno + 1
            for node in tree.body
            if isinstance(node, ast.FunctionDef)
        }
        assert functions["main"] <= 80, (path, functions["main"])
        assert not any(isinstance(node, ast.ClassDef) for node in tree.body)


# These are tables of one format each.
LONG = {"__init__", "named_tensors"}


def test_functions_stay_short():
    """60 lines of code, without docstring, comments and blank lines."""
    for path in sources("igpt_keras", "recipes"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef):
                continue
            if node.name in LONG or (
                node.name == "main" and "recipes" in path.parts
            ):
                continue
            body = node.body
            if ast.get_docstring(node) is not None:
                body = body[1:]
            if not body:
                continue
            code = [
                line
                for line in lines[body[0].lineno - 1 : node.end_lineno]
                if line.strip() and not line.strip().startswith("#")
            ]
            assert len(code) <= 60, f"{path}:{node.lineno} {node.name}"


def test_no_prints_asserts_or_bare_excepts_in_the_package():
    for path in sources("igpt_keras"):
        for node in ast.walk(ast.parse(path.read_text())):
            called = getattr(getattr(node, "func", None), "id", None)
            assert called != "print", f"{path}:{node.lineno}"
            assert not isinstance(node, ast.Assert), f"{path}:{node.lineno}"
            if isinstance(node, ast.ExceptHandler):
                assert node.type is not None, f"{path}:{node.lineno}"


def test_every_import_is_declared():
    declared = (ROOT / "setup.py").read_text()
    packages = {"PIL": "pillow", "absl": "absl-py", "sklearn": "scikit-learn"}
    standard = set(__import__("sys").stdlib_module_names)
    local = {p.stem for p in sources("recipes", "tools")} | {"igpt_keras"}
    for path in sources("igpt_keras", "recipes", "tools"):
        for _, module in imports(ast.parse(path.read_text())):
            name = module.split(".")[0]
            if name in standard | local:
                continue
            package = packages.get(name, name.replace("_", "-"))
            assert f'"{package}' in declared, (path, name)


def test_files_stay_small():
    for path in sources("igpt_keras", "recipes"):
        lines = len(pathlib.Path(path).read_text().splitlines())
        assert lines <= 450, f"{path} has {lines} lines"
