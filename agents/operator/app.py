"""Puts the `warren` command together."""

import typer

from agents.operator.commands import (
    aggregate,
    clients,
    events,
    install,
    integrators,
    run,
    stack,
    strategies,
    topology,
    trainings,
    users,
)


def create_app() -> typer.Typer:
    app = typer.Typer(
        name="warren",
        help="Federated learning on RabbitMQ: train one model over many sites that keep their data.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    for command in (stack.up, stack.down, stack.status, stack.demo):
        app.command()(command)
    for group in (topology, users, clients, integrators, trainings, events):
        app.add_typer(group.group)
    app.command()(strategies.strategies)
    app.command()(aggregate.aggregate)
    app.command()(install.install)
    run.add_to(app)
    return app
