"""Strategies: what a training may aggregate by."""

from fastapi import APIRouter

from infra import plugins
from schemas.catalogue import Described
from services.api.dependencies import CallerDep, PartsDep

router = APIRouter(prefix="/api/strategies", tags=["strategies"])


@router.get("/")
async def every(parts: PartsDep, _: CallerDep) -> tuple[Described, ...]:
    """Warren's own, then the operator's; `options` is a JSON Schema of what goes beside `name`."""
    return plugins.strategies(parts.rules)
