"""What is installed on a TPU is what setup.py asks for."""

import re

from conftest import ROOT


def test_tpu_requirements_are_those_of_setup():
    """But for TensorFlow, which is another wheel."""
    setup = (ROOT / "setup.py").read_text()
    block = setup.split("install_requires=[")[1].split("]")[0]
    wanted = set(re.findall(r'^ *"(.+)",', block, re.MULTILINE))
    lines = (ROOT / "requirements-tpu.txt").read_text().splitlines()
    found = {
        line for line in lines if line and not line.startswith(("#", "--"))
    }
    (tensorflow,) = (name for name in wanted if name.startswith("tensorflow>"))
    (tpu,) = (name for name in found if name.startswith("tensorflow-tpu"))
    assert found - {tpu} == wanted - {tensorflow}
