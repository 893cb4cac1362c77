"""Every strategy with options of some kind, and a fixed round of numbers of every kind."""

from typing import Any
from uuid import UUID

import numpy as np

from infra.plugins import load_rules
from infra.weights.arrays import NUMPY
from infra.weights.layout import Dtype, Tensor, canonical
from infra.weights.parts import FLOATS
from schemas import strategies as s
from schemas.ids import ClientId
from schemas.words import Extra
from tests.reference import Array, Arrays, Round, Sent

RULES = load_rules("damped=tests.rules:damped")
STRATEGIES: tuple[s.Strategy, ...] = (
    s.FedAvg(),
    s.FedAvg(weighting=s.Weighting.UNIFORM),
    s.FedAvg(weighting=s.Weighting.CAPPED, cap=20, client_weights={ClientId(UUID(int=2)): 0.3}),
    s.FedAvg(client_weights={ClientId(UUID(int=1)): 0.0}),
    s.FedProx(mu=0.1),
    s.FedAvgM(server_lr=0.7),
    s.FedAvgM(nesterov=True),
    s.FedAdagrad(),
    s.FedAdam(),
    s.FedYogi(),
    s.FedMedian(),
    s.FedTrimmedAvg(beta=0.3),
    s.Krum(f=1),
    s.MultiKrum(f=1, k=3),
    s.Bulyan(f=1),
    s.Bulyan(f=1, selection=s.Selection.SINGLE_PASS),
    s.QFedAvg(q=0.5),
    s.FedDC(period=1),
    s.SWAG(),
    s.SCAFFOLD(lr=0.5),
    s.SCAFFOLD(weighting=s.Weighting.EXAMPLES),
    s.Custom(rule="damped", options={"share": 0.25}),
)
EXTRAS = {s.SWAG: Extra.SECOND_MOMENT, s.SCAFFOLD: Extra.CONTROL}
LAYOUT = canonical(
    [
        Tensor("w", Dtype.F32, (30, 7)),
        Tensor("wide", Dtype.F64, (5,)),
        Tensor("half", Dtype.F16, (7,)),
        Tensor("brain", Dtype.BF16, (9,)),
        Tensor("bn.running_mean", Dtype.F32, (3,)),
        Tensor("n", Dtype.I64, (3,)),
        Tensor("tiny", Dtype.U8, (5,)),
        Tensor("mask", Dtype.BOOL, (11,)),
    ]
)


def values(random: np.random.Generator, tensor: Tensor, size: float) -> Array:
    """Many of them equal, some extreme for their dtype; floats about as large as `size`."""
    dtype, shape = NUMPY[tensor.dtype], tensor.shape
    if tensor.dtype == Dtype.BOOL:
        return random.random(shape) < 0.5
    is_small = random.random(shape) < 0.5
    if tensor.dtype in FLOATS:
        drawn = np.where(is_small, random.integers(-2, 3, shape), random.standard_normal(shape))
        return np.asarray(drawn * size).astype(dtype)
    edges = np.iinfo(dtype.name)
    extreme = random.integers(edges.min, edges.max, shape, dtype, endpoint=True)
    return np.where(is_small, random.integers(0, 4, shape).astype(dtype), extreme)


def a_round(strategy: s.Strategy, *, clients: int = 7, **more: Any) -> Round:
    """The same whenever it is asked for."""
    random = np.random.default_rng(7)
    extra = EXTRAS.get(type(strategy))

    def update() -> Arrays:
        beside = [tensor for tensor in LAYOUT.tensors if extra is not None and tensor.dtype in FLOATS]
        found = {tensor.name: values(random, tensor, 1.0) for tensor in LAYOUT.tensors}
        return {**found, **{f"{extra}/{tensor.name}": values(random, tensor, 1.0) for tensor in beside}}

    current = {tensor.name: values(random, tensor, 1.0) for tensor in LAYOUT.tensors}
    clients_ = (ClientId(UUID(int=number)) for number in range(1, clients + 1))
    sent = tuple(Sent(client, 10 + client.int, update(), loss=0.5 + client.int) for client in clients_)
    return Round(LAYOUT, strategy, current, sent, extra=extra, **more)
