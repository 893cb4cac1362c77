"""Says where a file's layout differs from the one its training has."""

from infra.weights.layout import Layout, Tensor
from infra.weights.refusals import HeaderDiffers


def require_same_header(layout: Layout, expected: Layout) -> None:
    """Refuse anything but the very same header bytes, naming the first difference."""
    require_same_tensors(layout, expected)
    if layout.header != expected.header:
        raise HeaderDiffers(
            "the tensors are the same but in another order, or with metadata or other spacing"
        )


def require_same_tensors(layout: Layout, expected: Layout) -> None:
    """Refuse another set of names, dtypes and shapes; order and metadata may differ."""
    found = {tensor.name: tensor for tensor in layout.tensors}
    for tensor in expected.tensors:
        _require_same(found.pop(tensor.name, None), tensor)
    if found:
        raise HeaderDiffers(f"tensor {next(iter(found))!r} is not part of it")


def _require_same(found: Tensor | None, expected: Tensor) -> None:
    name = expected.name
    if found is None:
        raise HeaderDiffers(f"tensor {name!r} is missing")
    if found.dtype != expected.dtype:
        raise HeaderDiffers(f"tensor {name!r} has dtype {found.dtype}, not {expected.dtype}")
    if found.shape != expected.shape:
        raise HeaderDiffers(f"tensor {name!r} has shape {list(found.shape)}, not {list(expected.shape)}")
