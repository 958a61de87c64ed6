"""A GPU computes what the CPU does, to the tolerances of benchmarks/device_agreement.py.

JAX_PLATFORMS=cuda,cpu python -m pytest -m gpu -n 0 tests/gpu
"""

import jax
import pytest

from benchmarks import device_agreement

pytestmark = pytest.mark.gpu


def test_the_default_device_is_a_gpu():
    assert jax.devices()[0].platform == "gpu"


@pytest.mark.parametrize("name", device_agreement.COMPARISONS)
def test_agreement(name):
    differences = device_agreement.compare(name)
    assert differences
    assert not [difference for difference in differences if not difference.agrees]
