"""What a worker remembers between commands: layouts and plans never change."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from infra.objects.store import ObjectStore, fetch
from infra.weights.header import parse_header
from infra.weights.layout import Layout
from schemas.ids import ModelId
from schemas.reduction import ReducePlan
from schemas.refusal import Refusal
from schemas.weights import ModelRef

_LAYOUTS = 64
_PLANS = 4
_MAX_PLAN_BYTES = 512 << 20


class StaleObject(Exception):
    """A fault: an object of ours is not what the command says.  A later attempt may find it there."""


@contextmanager
def ours(key: str) -> Iterator[None]:
    """Whatever is wrong with an object of ours is no client's doing, and no reason to refuse a command."""
    try:
        yield
    except Refusal as refusal:
        raise StaleObject(f"{key}: {refusal}") from refusal


class Known:
    """Safe to use from several threads."""

    def __init__(self, objects: ObjectStore) -> None:
        self._objects = objects
        self._layouts: dict[ModelId, Layout] = {}
        self._plan = lru_cache(_PLANS)(self._read_plan)

    def layout(self, model: ModelRef) -> Layout:
        """Every version of a model has the same header, so it is read once."""
        found = self._layouts.get(model.model_id)
        if found is None:
            found = self._read_layout(model.key, model.header_size)
            if len(self._layouts) >= _LAYOUTS:
                self._layouts.clear()
            self._layouts[model.model_id] = found
        return found

    def plan(self, key: str, sha256: str) -> ReducePlan:
        return self._plan(key, sha256)

    def _read_layout(self, key: str, header_size: int) -> Layout:
        with ours(key), self._objects.read(key, range(header_size)) as chunks:
            return parse_header(b"".join(chunks))

    def _read_plan(self, key: str, sha256: str) -> ReducePlan:
        with ours(key):
            body = fetch(self._objects, key, _MAX_PLAN_BYTES)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise StaleObject(f"{key} is not the plan the command names")
        return ReducePlan.model_validate_json(body)
