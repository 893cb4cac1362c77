"""Plays a round through a worker, command by command, as the scheduler would order it."""

from dataclasses import dataclass, replace
from typing import Any

from infra.objects.store import ObjectStore, fetch
from infra.weights.layout import Layout, shards
from infra.weights.parts import slot_layout, update_layout
from schemas import commands as c
from schemas import keys
from schemas import reports as r
from schemas.identity import derived
from schemas.ids import ModelId, TaskId
from schemas.reduction import ReducePlan
from schemas.weights import ModelRef, PlannedUpdate, State
from schemas.words import Slot
from services.aggregator.work import Worker
from tests.builders import TRAINING
from tests.recompute import sha256_of
from tests.reference import Arrays, Next, Round, Sent, combined

EPOCH = 2


def file_of(layout: Layout, arrays: Arrays) -> bytes:
    return layout.header + b"".join(arrays[tensor.name].tobytes() for tensor in layout.tensors)


@dataclass(frozen=True)
class Game:
    objects: ObjectStore
    worker: Worker
    shard_bytes: int = 64

    def model(self, round_: Round) -> ModelRef:
        content = file_of(round_.layout, round_.current)
        key = keys.model_version(TRAINING, round_.number, 1)
        self.objects.put(key, [content], len(content))
        return ModelRef(
            model_id=ModelId(derived("model", round_.layout.header.hex())),
            version=round_.number,
            key=key,
            sha256=sha256_of(content),
            size=len(content),
            header_size=round_.layout.header_size,
        )

    def taken_in(self, round_: Round, model: ModelRef) -> list[r.UpdateAccepted]:
        return [self._inspected(round_, model, sent) for sent in round_.sent]

    def plan(self, round_: Round, model: ModelRef, state: State = ()) -> tuple[Round, ReducePlan]:
        """The round with the distances that were measured, and the plan of it."""
        accepted = self.taken_in(round_, model)
        pairs = list(zip(round_.sent, accepted, strict=True))
        sent = tuple(replace(each, distance=report.distance or 0.0) for each, report in pairs)
        plan = ReducePlan(
            training_id=TRAINING,
            round=round_.number,
            epoch=EPOCH,
            strategy=round_.strategy,
            update=round_.update,
            norm_clip=round_.norm_clip,
            buffers=round_.buffers,
            extra=round_.extra,
            current=model,
            state=state,
            shard_bytes=self.shard_bytes,
            updates=tuple(_planned(round_, each, report) for each, report in pairs),
        )
        return replace(round_, sent=sent), plan

    def played(self, plan: ReducePlan) -> r.ModelPublished:
        if plan.strategy.chooses:
            plan = self._chosen(plan)
        reduced = self.of_shards(plan, c.ReduceShard, self.worker.reduce_shard)
        told = tuple(report.digests for report in reduced)
        published = self.worker.publish_model(
            self.command(plan, c.PublishModel, model=plan.current, shards=told)
        )
        assert isinstance(published, r.ModelPublished), published
        return published

    def of_shards(self, plan: ReducePlan, kind: Any, work: Any) -> list[Any]:  # of any command about shards
        """The reports of all shards; none of a single one."""
        count = len(shards(plan.current.size - plan.current.header_size, plan.shard_bytes))
        if count == 1:
            return []
        return [work(self.command(plan, kind, shard=shard)) for shard in range(count)]

    def command(self, plan: ReducePlan, kind: Any, **more: Any) -> Any:  # of any command about a plan
        body = plan.model_dump_json().encode()
        key = (keys.chosen_plan if plan.is_chosen else keys.reduce_plan)(TRAINING, plan.round, plan.epoch)
        self.objects.put(key, [body], len(body))
        named = {"training_id": TRAINING, "round": plan.round, "epoch": plan.epoch}
        return kind(**named, plan=key, plan_sha256=sha256_of(body), **more)

    def _chosen(self, plan: ReducePlan) -> ReducePlan:
        measured = self.of_shards(plan, c.MeasureShard, self.worker.measure_shard)
        told = tuple(report.digest for report in measured)
        report = self.worker.choose_updates(self.command(plan, c.ChooseUpdates, shards=told))
        assert isinstance(report, r.UpdatesChosen), report
        updates = tuple(update for update in plan.updates if update.client_id in report.clients)
        return plan.model_copy(update={"updates": updates, "is_chosen": True})

    def _inspected(self, round_: Round, model: ModelRef, sent: Sent) -> r.UpdateAccepted:
        content = file_of(layout_of(round_, sent), sent.arrays)
        key = keys.update(TRAINING, round_.number, _task(round_, sent))
        self.objects.put(key, [content], len(content))
        order = c.InspectUpdate(
            training_id=TRAINING,
            task_id=_task(round_, sent),
            client_id=sent.client,
            round=round_.number,
            key=key,
            sha256=sha256_of(content),
            model=model,
            update=round_.update,
            partial=True,
            extra=round_.extra,
            measures=True,
            shard_bytes=self.shard_bytes,
        )
        report = self.worker.inspect_update(order)
        assert isinstance(report, r.UpdateAccepted), report
        return report


def files(objects: ObjectStore, published: r.ModelPublished) -> tuple[bytes, dict[Slot, bytes]]:
    state = {ref.slot: fetch(objects, ref.key, ref.size) for ref in published.state}
    assert [sha256_of(content) for content in state.values()] == [ref.sha256 for ref in published.state]
    return fetch(objects, published.model.key, published.model.size), state


def expected(round_: Round) -> tuple[bytes, dict[Slot, bytes]]:
    return as_files(round_, combined(round_))


def as_files(round_: Round, made: Next) -> tuple[bytes, dict[Slot, bytes]]:
    model, state = made
    kept = {slot: file_of(slot_layout(round_.layout, slot), arrays) for slot, arrays in state.items()}
    return file_of(round_.layout, model), kept


def tensors_of(round_: Round, sent: Sent) -> tuple[int, ...]:
    return tuple(place for place, tensor in enumerate(round_.layout.tensors) if tensor.name in sent.arrays)


def layout_of(round_: Round, sent: Sent) -> Layout:
    return update_layout(round_.layout, round_.extra, tensors_of(round_, sent))


def _planned(round_: Round, sent: Sent, report: r.UpdateAccepted) -> PlannedUpdate:
    return PlannedUpdate(
        client_id=sent.client,
        task_id=report.task_id,
        key=keys.update(TRAINING, round_.number, report.task_id),
        etag=report.etag,
        sha256=report.sha256,
        num_examples=sent.num_examples,
        digests=report.digests,
        norm=report.norm,
        distance=report.distance,
        loss=sent.loss,
        tensors=report.tensors,
    )


def _task(round_: Round, sent: Sent) -> TaskId:
    return TaskId(derived("task", sent.client, round_.number))
