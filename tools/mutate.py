"""Breaks a file on purpose, a little at a time: do its tests notice?

    python tools/mutate.py igpt_keras/data/split.py tests/data --most=40

In a temporary copy; without `tests`, with those of the same name.
"""

import argparse
import ast
import concurrent.futures
import contextlib
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
_MOST_SECONDS = 600
_PAIRS = "Lt GtE Gt LtE Eq NotEq In NotIn Is IsNot Add Sub Mult Div And Or"
_NAMES = dict(zip(_PAIRS.split()[::2], _PAIRS.split()[1::2]))
_OPPOSITE = {getattr(ast, a): getattr(ast, b) for a, b in _NAMES.items()}
_OPPOSITE.update({b: a for a, b in _OPPOSITE.items()})


def changes(node):
    """Single changes of a node: a dict or list, a key and what to put there."""
    own = vars(node)
    if type(own.get("op")) in _OPPOSITE:
        yield own, "op", _OPPOSITE[type(node.op)]()
    elif isinstance(node, ast.Compare):
        for i, op in enumerate(node.ops):
            yield node.ops, i, _OPPOSITE[type(op)]()
    elif isinstance(node, ast.Constant):
        if isinstance(node.value, (int, float)):
            number = 2 * node.value + 1
            is_bool = isinstance(node.value, bool)
            yield own, "value", not node.value if is_bool else number
    elif isinstance(node, (ast.If, ast.IfExp, ast.While)):
        yield own, "test", ast.UnaryOp(ast.Not(), node.test)
    elif isinstance(node, ast.Return) and node.value is not None:
        yield own, "value", None
    elif isinstance(node, ast.Call):
        for i in range(len(node.keywords)):
            yield own, "keywords", node.keywords[:i] + node.keywords[i + 1 :]
    elif isinstance(node, ast.arguments):
        for i, default in enumerate(node.defaults):
            # Numbers and booleans are constants, above.
            value = getattr(default, "value", 0)
            if value is None or isinstance(value, str):
                yield node.defaults, i, ast.Constant("mutated")


def mutations(source):
    """Descriptions and texts of a file with one thing changed in each."""
    nodes = list(ast.walk(ast.parse(source)))
    for i, node in enumerate(nodes):
        for j in range(len(list(changes(node)))):
            tree = ast.parse(source)
            same = list(ast.walk(tree))[i]
            line = getattr(same, "lineno", getattr(nodes[i - 1], "lineno", 0))
            where, key, value = list(changes(same))[j]
            texts = [ast.unparse(same).splitlines()[0]]
            where[key] = value
            texts.append(ast.unparse(same).splitlines()[0])
            yield f"line {line}: {' -> '.join(texts)}", ast.unparse(tree)


def passes(root, file, text, tests):
    """Whether pytest passes in a copy where a file holds another text."""
    hidden = shutil.ignore_patterns(".*", "runs", "__pycache__")
    stop = contextlib.suppress(subprocess.TimeoutExpired)
    with stop, tempfile.TemporaryDirectory() as directory:
        copy = pathlib.Path(directory, root.resolve().name)
        shutil.copytree(root, copy, ignore=hidden)
        (copy / file).write_text(text)
        env = {**os.environ, "PYTHONPATH": f"{copy}{os.pathsep}{copy}/tests"}
        options = {"cwd": copy, "env": env, "timeout": _MOST_SECONDS}
        command = [sys.executable, "-m", "pytest", "-x", *tests]
        result = subprocess.run(command, capture_output=True, **options)
        return result.returncode == 0
    return False


def main(arguments, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", help="to break, a path below the root")
    parser.add_argument("tests", nargs="*", help="for pytest")
    parser.add_argument("--most", type=int, help="mutations, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the drawing")
    parser.add_argument("--jobs", type=int, default=1, help="at a time")
    args = parser.parse_args(arguments)
    file = pathlib.Path(args.file).resolve().relative_to(root.resolve())
    parts = file.parts[file.parts[0] == "igpt_keras" :]
    mirror = pathlib.Path("tests", *parts[:-1], f"{file.stem}_test.py")
    tests = args.tests or [str(mirror)]
    found = list(mutations((root / file).read_text()))
    random.Random(args.seed).shuffle(found)
    found = found[: args.most]
    if not passes(root, file, (root / file).read_text(), tests):
        sys.exit(f"{' '.join(tests)} must pass before {file} is broken.")
    survived = tried = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        try:
            run = pool.map(lambda x: passes(root, file, x[1], tests), found)
            for tried, passed in enumerate(run, 1):
                survived += passed
                word = "SURVIVED" if passed else "caught"
                what = found[tried - 1][0]
                print(f"{tried}/{len(found)} {word} {what}", flush=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
    print(f"{tried - survived} of {tried} mutations were caught.")
    return 1 if survived or tried < len(found) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
