"""The same for machines: an AsyncAPI 3.0 document and one JSON Schema per message."""

from typing import Any

from docs.catalogue import ABOUT, meaning
from schemas.envelope import CONTENT_TYPE, Envelope
from schemas.message import Message
from schemas.reduction import ReducePlan
from schemas.routing import TABLE, Exchange, Role, Route
from schemas.timers import EvaluationTimedOut, RoundTimedOut

Document = dict[str, Any]

KINDS = {
    Exchange.COMMANDS: "topic",
    Exchange.CLIENTS: "direct",
    Exchange.UPLINK: "topic",
    Exchange.EVENTS: "topic",
}
KEYS = {
    Exchange.COMMANDS: "{addressee}.{type}",
    Exchange.CLIENTS: "{client_id}",
    Exchange.UPLINK: "{sender}.{type}",
    Exchange.EVENTS: "training.{training_id}.{type}",
}
PARAMETERS = {
    "addressee": "The service an order is for: scheduler or aggregator.",
    "client_id": "The client an order is for.",
    "sender": "The client's id, or `aggregator`; the broker checks it against the login.",
    "training_id": "The training the event is about.",
    "type": "The message's type.",
}
_AT_REST = (RoundTimedOut, EvaluationTimedOut, ReducePlan)  # kept in the database or the store, not routed


def json_schemas() -> dict[str, Document]:
    """By name: everything that is written now and read by a later release."""
    models = {route.name: route.message for route in TABLE} | {model.__name__: model for model in _AT_REST}
    return {name: model.model_json_schema() for name, model in models.items()}


def asyncapi() -> Document:
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Warren",
            "version": "1.0.0",
            "description": "Written by `python -m docs.generate` from `schemas/routing.py`; do not edit.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {str(exchange): _channel(exchange) for exchange in Exchange},
        "operations": dict(
            _operation(exchange, role, action)
            for exchange in Exchange
            for action in ("send", "receive")
            for role in _roles(exchange, action)
        ),
        "components": {
            "messages": {_id(route): _message(route) for route in TABLE},
            "schemas": {"Envelope": _envelope()},
        },
    }


def _channel(exchange: Exchange) -> Document:
    key = KEYS[exchange]
    return {
        "address": key,
        "description": ABOUT[exchange],
        "messages": {
            route.name: {"$ref": f"#/components/messages/{_id(route)}"} for route in _routes(exchange)
        },
        "parameters": {
            name: {"description": said} for name, said in PARAMETERS.items() if f"{{{name}}}" in key
        },
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": str(exchange), "type": KINDS[exchange], "durable": True},
                "bindingVersion": "0.3.0",
            }
        },
    }


def _operation(exchange: Exchange, role: Role, action: str) -> tuple[str, Document]:
    routes = [route for route in _routes(exchange) if role in _parties(route, action)]
    preposition = "to" if action == "send" else "from"
    operation = {
        "action": action,
        "channel": {"$ref": f"#/channels/{exchange}"},
        "tags": [{"name": str(role)}],
        "messages": [{"$ref": f"#/channels/{exchange}/messages/{route.name}"} for route in routes],
    }
    return f"{role}_{action}s_{preposition}_{exchange}", operation


def _message(route: Route) -> Document:
    return {
        "name": route.name,
        "summary": meaning(route.message),
        "contentType": CONTENT_TYPE,
        "x-routing-key": route.key,
        "payload": {
            "allOf": [
                {"$ref": "#/components/schemas/Envelope"},
                {
                    "type": "object",
                    "properties": {
                        "type": {"const": route.name},
                        "data": {"$ref": f"./schemas/{route.name}.json"},
                    },
                },
            ]
        },
    }


def _envelope() -> Document:
    """The envelope around any message; what its data is, each message says itself."""
    schema = Envelope[Message].model_json_schema()
    del schema["$defs"]
    return {**schema, "title": "Envelope", "properties": {**schema["properties"], "data": {"type": "object"}}}


def _id(route: Route) -> str:
    return f"{route.exchange}.{route.name}"


def _routes(exchange: Exchange) -> list[Route]:
    return [route for route in TABLE if route.exchange is exchange]


def _parties(route: Route, action: str) -> tuple[Role, ...]:
    return route.producers if action == "send" else route.consumers


def _roles(exchange: Exchange, action: str) -> list[Role]:
    parties = {role for route in _routes(exchange) for role in _parties(route, action)}
    return [role for role in Role if role in parties]
