"""A model, its updates and the commands about them, in any object store."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from infra.objects.store import ObjectStore
from infra.weights.layout import Dtype, Layout, Tensor, canonical, shards
from schemas import keys
from schemas.commands import InspectUpdate, PublishModel, ReduceShard
from schemas.identity import derived
from schemas.ids import ClientId, ModelId, TaskId, TrainingId
from schemas.reduction import ReducePlan
from schemas.reports import UpdateAccepted
from schemas.strategies import FedAvg
from schemas.weights import ModelRef, PlannedUpdate
from services.aggregator.work import Worker
from tests.recompute import sha256_of, trained

LAYOUT = canonical(
    [
        Tensor("w", Dtype.F32, (30,)),
        Tensor("h", Dtype.F16, (11,)),
        Tensor("n", Dtype.I64, (5,)),
        Tensor("mask", Dtype.BOOL, (13,)),
    ]
)
SHARD_BYTES = 64
EPOCH = 3


def an_update(client: int, layout: Layout = LAYOUT) -> bytes:
    return trained(layout, layout.header + bytes(layout.data_size), [client])


@dataclass(frozen=True)
class Bench:
    """One round of one training, up to its reduction."""

    objects: ObjectStore
    training: TrainingId
    layout: Layout = LAYOUT
    shard_bytes: int = SHARD_BYTES

    def model(self) -> ModelRef:
        """Stored as its owner brought it."""
        content = an_update(0, self.layout)
        model_id = ModelId(derived("model", self.training))
        key = keys.uploaded_model(model_id)
        self.objects.put(key, [content], len(content))
        return ModelRef(
            model_id=model_id,
            version=0,
            key=key,
            sha256=sha256_of(content),
            size=len(content),
            header_size=self.layout.header_size,
        )

    def key(self, client: int) -> str:
        return keys.update(self.training, 0, _task(client))

    def upload(self, client: int, content: bytes) -> None:
        self.objects.put(self.key(client), [content], len(content))

    def inspection(self, client: int, content: bytes) -> InspectUpdate:
        """The order that follows when that content was announced."""
        return InspectUpdate(
            training_id=self.training,
            task_id=_task(client),
            client_id=ClientId(UUID(int=client)),
            round=0,
            key=self.key(client),
            sha256=sha256_of(content),
            model=self.model(),
            shard_bytes=self.shard_bytes,
        )

    def taken_in(self, worker: Worker, clients: Sequence[int]) -> list[UpdateAccepted]:
        found = []
        for client in clients:
            content = an_update(client, self.layout)
            self.upload(client, content)
            report = worker.inspect_update(self.inspection(client, content))
            assert isinstance(report, UpdateAccepted)
            found.append(report)
        return found

    def plan(self, accepted: Sequence[UpdateAccepted], **fields: Any) -> tuple[str, str]:
        """Key and sha256 of the reduce plan of these updates, by default FedAvg's; client k counts 10 + k."""
        plan = ReducePlan(
            training_id=self.training,
            round=0,
            epoch=EPOCH,
            current=self.model(),
            shard_bytes=self.shard_bytes,
            updates=tuple(
                PlannedUpdate(
                    client_id=each.client_id,
                    task_id=each.task_id,
                    key=keys.update(self.training, 0, each.task_id),
                    etag=each.etag,
                    sha256=each.sha256,
                    num_examples=10 + each.client_id.int,
                    digests=each.digests,
                    norm=each.norm,
                    distance=each.distance,
                    tensors=each.tensors,
                )
                for each in accepted
            ),
            **{"strategy": FedAvg(), **fields},
        )
        body = plan.model_dump_json().encode()
        key = keys.reduce_plan(self.training, 0, EPOCH)
        self.objects.put(key, [body], len(body))
        return key, sha256_of(body)

    @property
    def shards(self) -> int:
        return len(shards(self.layout.data_size, self.shard_bytes))

    def reduction(self, plan: tuple[str, str], shard: int) -> ReduceShard:
        key, sha256 = plan
        return ReduceShard(
            training_id=self.training, round=0, epoch=EPOCH, plan=key, plan_sha256=sha256, shard=shard
        )

    def publication(self, plan: tuple[str, str], digests: Sequence[tuple[str, ...]]) -> PublishModel:
        key, sha256 = plan
        return PublishModel(
            training_id=self.training,
            round=0,
            epoch=EPOCH,
            model=self.model(),
            plan=key,
            plan_sha256=sha256,
            shards=tuple(digests),
        )


def _task(client: int) -> TaskId:
    return TaskId(derived("task", client))
