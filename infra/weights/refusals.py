"""Why a weights file is turned away."""

from typing import ClassVar

from schemas.refusal import Refusal

MAGNITUDE_LIMIT = 2.0**480  # of any number: neither a sum of squares nor a weighted sum can overflow


class MalformedWeights(Refusal):
    code: ClassVar[str] = "malformed_weights"

    def __init__(self, why: str) -> None:
        super().__init__(f"not a valid weights file: {why}")


class UnsupportedArchive(Refusal):
    code: ClassVar[str] = "unsupported_archive"

    def __init__(self, why: str) -> None:
        super().__init__(
            f"not a state_dict archive: {why}; send torch.save(model.state_dict()) or safetensors"
        )


class HeaderDiffers(Refusal):
    code: ClassVar[str] = "header_differs"

    def __init__(self, difference: str) -> None:
        super().__init__(f"the file's tensors are not those of the training's model: {difference}")


class ExtraNameTaken(Refusal):
    code: ClassVar[str] = "extra_name_taken"

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"the model has a tensor {name!r}, where an update must have an extra one")


class WeightsTruncated(Refusal):
    code: ClassVar[str] = "weights_truncated"

    def __init__(self, size: int, expected: int) -> None:
        self.size, self.expected = size, expected
        super().__init__(f"the weights file ends after {size} bytes, {expected} are expected")


class WeightsPadded(Refusal):
    code: ClassVar[str] = "weights_padded"

    def __init__(self, size: int, expected: int) -> None:
        self.size, self.expected = size, expected
        super().__init__(f"the weights file has at least {size} bytes, exactly {expected} are expected")


class DigestDiffers(Refusal):
    code: ClassVar[str] = "digest_differs"

    def __init__(self, actual: str, expected: str) -> None:
        self.actual, self.expected = actual, expected
        super().__init__(f"the file's digest is {actual}, {expected} was announced")


class NotFinite(Refusal):
    code: ClassVar[str] = "not_finite"

    def __init__(self, tensor: str, index: int) -> None:
        self.tensor, self.index = tensor, index
        super().__init__(f"tensor {tensor!r} has a NaN or an infinity at flat index {index}")


class ValueTooLarge(Refusal):
    code: ClassVar[str] = "value_too_large"

    def __init__(self, tensor: str, index: int) -> None:
        self.tensor, self.index = tensor, index
        super().__init__(f"tensor {tensor!r} has a value of 2**480 or beyond at flat index {index}")


class DeltaTooLarge(Refusal):
    code: ClassVar[str] = "delta_too_large"

    def __init__(self, tensor: str, index: int) -> None:
        self.tensor, self.index = tensor, index
        super().__init__(
            f"tensor {tensor!r} and the model's add up to more than its dtype can hold at flat index {index}"
        )


class NotBoolean(Refusal):
    code: ClassVar[str] = "not_boolean"

    def __init__(self, tensor: str, index: int) -> None:
        self.tensor, self.index = tensor, index
        super().__init__(f"boolean tensor {tensor!r} has a byte other than 0 and 1 at flat index {index}")
