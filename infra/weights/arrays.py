"""The numpy types of the tensors we handle."""

import ml_dtypes
import numpy as np

from infra.weights.layout import Dtype

NUMPY: dict[Dtype, np.dtype[np.generic]] = {
    Dtype.U64: np.dtype("<u8"),
    Dtype.I64: np.dtype("<i8"),
    Dtype.F64: np.dtype("<f8"),
    Dtype.F32: np.dtype("<f4"),
    Dtype.U32: np.dtype("<u4"),
    Dtype.I32: np.dtype("<i4"),
    Dtype.BF16: np.dtype(ml_dtypes.bfloat16),
    Dtype.F16: np.dtype("<f2"),
    Dtype.U16: np.dtype("<u2"),
    Dtype.I16: np.dtype("<i2"),
    Dtype.I8: np.dtype("i1"),
    Dtype.U8: np.dtype("u1"),
    Dtype.BOOL: np.dtype("?"),
}
DTYPES: dict[np.dtype[np.generic], Dtype] = {array: dtype for dtype, array in NUMPY.items()}
