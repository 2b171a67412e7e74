import forked
import pytest
from conftest import ROOT

pytest.importorskip("tensorflow")


@pytest.mark.large
def test_a_few(subprocess_environment):
    result = forked.run(
        [ROOT / "tools" / "many_validations.py", "--validations=20"],
        env=subprocess_environment,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    assert "20 validations, all the same" in result.stdout
