"""Reads the pickle of a state_dict archive as a description of tensors: nothing is imported or called."""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass

from infra.weights.layout import Dtype
from infra.weights.refusals import UnsupportedArchive

ORDERED_DICT = "collections OrderedDict"
REBUILD_TENSOR = "torch._utils _rebuild_tensor_v2"
REBUILD_TYPED_TENSOR = "torch._utils _rebuild_tensor_v3"
REBUILD_PARAMETER = "torch._utils _rebuild_parameter"
UNTYPED_STORAGE = "torch.storage UntypedStorage"

STORAGES = {
    "torch DoubleStorage": Dtype.F64,
    "torch FloatStorage": Dtype.F32,
    "torch HalfStorage": Dtype.F16,
    "torch BFloat16Storage": Dtype.BF16,
    "torch LongStorage": Dtype.I64,
    "torch IntStorage": Dtype.I32,
    "torch ShortStorage": Dtype.I16,
    "torch CharStorage": Dtype.I8,
    "torch ByteStorage": Dtype.U8,
    "torch BoolStorage": Dtype.BOOL,
}
TYPES_WITHOUT_STORAGE = {"torch uint16": Dtype.U16, "torch uint32": Dtype.U32, "torch uint64": Dtype.U64}
_FUNCTIONS = {ORDERED_DICT, REBUILD_TENSOR, REBUILD_TYPED_TENSOR, REBUILD_PARAMETER, UNTYPED_STORAGE}
_ADMITTED = _FUNCTIONS | STORAGES.keys() | TYPES_WITHOUT_STORAGE.keys()


@dataclass(frozen=True, slots=True)
class Global:
    """A name the pickle mentions; it is never looked up."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    """One member of the archive, by its key; its dtype is None where each view has its own."""

    key: str
    dtype: Dtype | None


@dataclass(frozen=True, slots=True)
class View:
    """A tensor: offset and stride count elements of its storage."""

    storage: Storage
    dtype: Dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


def read_pickle(text: bytes) -> object:
    """The value this pickle describes, made of dicts, tuples, strings, numbers and `View`s.

    Understands only the operations that `torch.save` uses for a state_dict.
    """
    machine = _Machine()
    try:
        for operation, argument, _ in pickletools.genops(text):
            machine.step(operation.name, argument)
        return machine.stack.pop()
    except (
        ValueError,
        IndexError,
        KeyError,
        OverflowError,
        DeprecationWarning,
    ) as error:  # a bad escape warns
        raise UnsupportedArchive(f"its data.pkl is damaged ({type(error).__name__})") from None


class _Machine:
    def __init__(self) -> None:
        self.stack: list[object] = []
        self.marks: list[int] = []
        self.memo: dict[int, object] = {}

    def step(self, name: str, argument: object) -> None:
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _MAKERS:
            self.stack.append(_MAKERS[name]())
        elif name in _ACTIONS:
            _ACTIONS[name](self, argument)
        elif name not in _IGNORED:
            raise UnsupportedArchive(f"its data.pkl uses the operation {name}")

    def mark(self, _: object) -> None:
        self.marks.append(len(self.stack))

    def put(self, index: object) -> None:
        assert isinstance(index, int)
        self.memo[index] = self.stack[-1]

    def memoize(self, _: object) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def get(self, index: object) -> None:
        assert isinstance(index, int)
        self.stack.append(self.memo[index])

    def named(self, name: object) -> None:
        assert isinstance(name, str)
        self.stack.append(_global(name))

    def named_on_stack(self, _: object) -> None:
        module, name = self.take(2)
        self.stack.append(_global(f"{module} {name}" if isinstance(module, str) else "an unnamed class"))

    def tuple_since_mark(self, _: object) -> None:
        self.stack.append(self.take_since_mark())

    def persistent(self, _: object) -> None:
        self.stack.append(_storage(self.stack.pop()))

    def reduce(self, _: object) -> None:
        function, arguments = self.take(2)
        self.stack.append(_reduced(function, arguments))

    def set_item(self, _: object) -> None:
        self.fill(self.take(2))

    def set_items(self, _: object) -> None:
        self.fill(self.take_since_mark())

    def build(self, _: object) -> None:
        """Attributes, such as the `_metadata` of a state_dict, are of no use to us."""
        self.take(1)

    def fill(self, pairs: tuple[object, ...]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise UnsupportedArchive("its data.pkl fills something that is not a dict")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str):
                raise UnsupportedArchive("it has a key that is not a string")
            target[key] = value

    def take(self, count: int) -> tuple[object, ...]:
        if not 0 <= count <= len(self.stack):
            raise IndexError(count)
        bottom = len(self.stack) - count
        taken = tuple(self.stack[bottom:])
        del self.stack[bottom:]
        return taken

    def take_since_mark(self) -> tuple[object, ...]:
        return self.take(len(self.stack) - self.marks.pop())


_LITERALS = {"BINUNICODE", "SHORT_BINUNICODE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"}
_MAKERS: dict[str, Callable[[], object]] = {
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}
_ACTIONS: dict[str, Callable[[_Machine, object], None]] = {
    "MARK": _Machine.mark,
    "BINPUT": _Machine.put,
    "LONG_BINPUT": _Machine.put,
    "MEMOIZE": _Machine.memoize,
    "BINGET": _Machine.get,
    "LONG_BINGET": _Machine.get,
    "GLOBAL": _Machine.named,
    "STACK_GLOBAL": _Machine.named_on_stack,
    "TUPLE": _Machine.tuple_since_mark,
    "TUPLE1": lambda machine, _: machine.stack.append(machine.take(1)),
    "TUPLE2": lambda machine, _: machine.stack.append(machine.take(2)),
    "TUPLE3": lambda machine, _: machine.stack.append(machine.take(3)),
    "BINPERSID": _Machine.persistent,
    "REDUCE": _Machine.reduce,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "BUILD": _Machine.build,
}
_IGNORED = {"PROTO", "FRAME", "STOP"}


def _global(name: str) -> Global:
    if name not in _ADMITTED:
        raise UnsupportedArchive(
            f"it holds the Python object {name[:200].replace(' ', '.')!r}, not just tensors"
        )
    return Global(name)


def _storage(identity: object) -> Storage:
    match identity:
        case ("storage", Global(name), str(key), str(), int()) if name in STORAGES:
            return Storage(key, STORAGES[name])
        case ("storage", Global(name), str(key), str(), int()) if name == UNTYPED_STORAGE:
            return Storage(key, None)
    raise UnsupportedArchive("its data.pkl refers to a storage in an unknown way")


def _reduced(function: object, arguments: object) -> object:
    match (function, arguments):
        case (Global(name), ()) if name == ORDERED_DICT:
            return {}
        case (Global(name), (View() as view, *_)) if name == REBUILD_PARAMETER:
            return view
        case (Global(name), (Storage(_, Dtype() as dtype), *_)) if name == REBUILD_TENSOR:
            return _view(dtype, arguments)
        case (Global(name), (_, _, _, _, _, _, Global(dtype), *_)) if (
            name == REBUILD_TYPED_TENSOR and dtype in TYPES_WITHOUT_STORAGE
        ):
            return _view(TYPES_WITHOUT_STORAGE[dtype], arguments)
    raise UnsupportedArchive("its data.pkl rebuilds something that is not a dense tensor")


def _view(dtype: Dtype, arguments: object) -> View:
    match arguments:
        case (Storage() as storage, int(offset), tuple(shape), tuple(stride), *_) if all(
            type(number) is int for number in (*shape, *stride)
        ) and len(shape) == len(stride):
            return View(storage, dtype, offset, shape, stride)
    raise UnsupportedArchive("its data.pkl describes a tensor in an unknown way")
