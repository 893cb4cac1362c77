import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.weights.layout import Dtype
from services.aggregator.rules.rounding import narrow
from tests.reference import rounded

small = st.floats(-1e-38, 1e-38, allow_subnormal=True)


@given(st.floats(-3e38, 3e38, allow_subnormal=True) | small)
def test_bfloat16_is_rounded_once(value: float) -> None:
    assert narrow(np.array([value]), Dtype.BF16).tobytes() == rounded(np.array([value]), Dtype.BF16).tobytes()


@pytest.mark.parametrize("tail", [2**-40, 0.0, -(2**-40)])
@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("odd", [0, 1])
def test_a_value_next_to_halfway_goes_to_its_own_side(tail: float, sign: float, odd: int) -> None:
    value = np.array([sign * (1 + odd * 2**-7 + 2**-8 + tail)])
    assert narrow(value, Dtype.BF16).tobytes() == rounded(value, Dtype.BF16).tobytes()
