import ast

import mutate
import pytest

SOURCE = '''"""A docstring of 3 words."""


def clip(x, low=0, most=None, name="clip", *, wide=True):
    if x < low and wide:
        return dict(value=low)
    return x + 2 * low
'''


def texts():
    return [
        ast.unparse(ast.parse(text)) for _, text in mutate.mutations(SOURCE)
    ]


@pytest.mark.parametrize(
    "before, after",
    [
        ("x < low", "x >= low"),
        ("x + 2", "x - 2"),
        ("2 * low", "2 / low"),
        ("2 * low", "5 * low"),
        ("low=0", "low=1"),
        ("most=None", "most='mutated'"),
        ("name='clip'", "name='mutated'"),
        ("wide=True", "wide=False"),
        ("low and wide", "low or wide"),
        ("if x < low and wide", "if not (x < low and wide)"),
        ("return x + 2 * low", "return"),
        ("return dict(value=low)", "return"),
        ("dict(value=low)", "dict()"),
    ],
)
def test_each_kind_of_mutation(before, after):
    whole = ast.unparse(ast.parse(SOURCE))
    assert before in whole
    assert whole.replace(before, after, 1) in texts()


def test_one_thing_at_a_time():
    whole = ast.unparse(ast.parse(SOURCE)).splitlines()
    found = texts()
    assert len(found) == len(set(found)) == 13
    for text in found:
        lines = text.splitlines()
        assert len(lines) == len(whole)
        assert sum(a != b for a, b in zip(lines, whole)) == 1
    descriptions = [line for line, _ in mutate.mutations(SOURCE)]
    assert "line 5: x < low -> x >= low" in descriptions


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "igpt_keras").mkdir(parents=True)
    (root / "tests").mkdir()
    (root / "igpt_keras" / "sign.py").write_text(
        "def sign(x):\n    return 1 if x > 0 else -1\n"
    )
    (root / "tests" / "sign_test.py").write_text(
        "from igpt_keras.sign import sign\n\n\n"
        "def test_sign():\n"
        "    assert sign(3) == 1 and sign(0) == -1 and sign(1) == 1\n"
    )
    return root


def files(root):
    return {p: p.read_text() for p in root.rglob("*") if p.is_file()}


@pytest.mark.large
def test_says_what_survives_and_leaves_the_tree(project, capsys):
    before = files(project)
    path = str(project / "igpt_keras" / "sign.py")
    assert mutate.main([path], project) == 0
    printed = capsys.readouterr().out
    assert "SURVIVED" not in printed and "6 of 6 mutations were" in printed
    weak = project / "tests" / "weak_test.py"
    weak.write_text(
        "from igpt_keras.sign import sign\n\n\n"
        "def test_sign():\n    assert sign(3) == 1\n"
    )
    assert mutate.main([path, "tests/weak_test.py", "--jobs=2"], project) == 1
    printed = capsys.readouterr().out
    assert "SURVIVED line 2: -1 ->" not in printed
    assert "SURVIVED line 2: x > 0" not in printed
    weak.unlink()
    assert files(project) == before


@pytest.mark.large
def test_draws_some(project, capsys):
    path = str(project / "igpt_keras" / "sign.py")
    drawn = set()
    for seed in range(3):
        assert mutate.main([path, "--most=1", f"--seed={seed}"], project) == 0
        printed = capsys.readouterr().out
        assert "1 of 1 mutations were caught" in printed
        drawn.add(printed)
    assert len(drawn) > 1


def test_tests_that_fail_before_say_nothing(project):
    (project / "tests" / "sign_test.py").write_text("assert False\n")
    path = str(project / "igpt_keras" / "sign.py")
    with pytest.raises(SystemExit, match="must pass before"):
        mutate.main([path], project)
