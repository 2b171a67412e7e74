import sys
import types

import pytest

from igpt_keras import terminal


@pytest.mark.parametrize("is_terminal, expected", [(True, 1), (False, 2)])
def test_bars_on_terminals_lines_in_files(is_terminal, expected, monkeypatch):
    output = types.SimpleNamespace(isatty=lambda: is_terminal)
    monkeypatch.setattr(sys, "stdout", output)
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    assert terminal.verbosity() == expected
    assert terminal.verbosity(0) == 0
    # A notebook is no terminal and shows bars.
    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("x"))
    assert terminal.verbosity() == 1


def test_the_command_can_be_given_again_on_another_machine(monkeypatch):
    words = ["/somewhere/else/recipes/pretrain.py", "--run_dir=my runs"]
    monkeypatch.setattr(sys, "argv", words)
    expected = "python recipes/pretrain.py '--run_dir=my runs'"
    assert terminal.command_line() == expected
