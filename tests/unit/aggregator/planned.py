"""Accepted updates, by what their weights follow from."""

from uuid import UUID

from schemas.ids import ClientId, TaskId
from schemas.weights import PlannedUpdate


def a_client(number: int) -> ClientId:
    return ClientId(UUID(int=number))


def planned(
    client: int, examples: int = 1, *, loss: float | None = None, distance: float | None = None
) -> PlannedUpdate:
    return PlannedUpdate(
        client_id=a_client(client),
        task_id=TaskId(UUID(int=client)),
        key="updates/some",
        etag="etag",
        sha256="0" * 64,
        num_examples=examples,
        digests=(),
        norm=1.0,
        distance=distance,
        loss=loss,
    )
