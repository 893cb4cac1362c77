"""`warren aggregate`: a round over files, with nothing running."""

import json
import re
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table

from agents.operator.combining import combined
from agents.operator.console import out as console
from agents.operator.console import say, say_json
from agents.operator.errors import CommandFailed
from agents.operator.options import AsJson, told_object
from agents.operator.tables import metrics_text
from schemas.offline import OfflineDone, OfflineRound, OfflineUpdate
from schemas.words import Extra, UpdateKind

_UPDATE = re.compile(
    r"(?P<file>.+?):(?P<examples>[0-9]+)(?::(?P<client>[^:{]*)(?::(?P<metrics>\{.*\}))?)?", re.DOTALL
)
_FORM = "FILE:EXAMPLES[:CLIENT[:METRICS]]"


def aggregate(  # noqa: PLR0913, PLR0917 -- the options of a command line
    current: Annotated[str, typer.Option(help="the model so far, a safetensors file")],
    update: Annotated[list[str], typer.Option(metavar=_FORM, help="repeat it; METRICS is a JSON object")],
    out: Annotated[str, typer.Option(help="where the new model goes")],
    strategy: Annotated[str, typer.Option(help="a name, or package.module:function")] = "FedAvg",
    options: Annotated[str, typer.Option(help="of the strategy, as a JSON object")] = "{}",
    state: Annotated[str | None, typer.Option(help="folder of the strategy's state; none: zeros")] = None,
    state_out: Annotated[str | None, typer.Option(help="folder for the state after this round")] = None,
    round_: Annotated[
        int | None, typer.Option("--round", min=0, help="number of the round; else the one after the state's")
    ] = None,
    update_kind: Annotated[UpdateKind, typer.Option(help="what the files hold")] = UpdateKind.WEIGHTS,
    partial: Annotated[
        bool, typer.Option("--partial", help="files may have some of the tensors only")
    ] = False,
    norm_clip: Annotated[float | None, typer.Option(help="largest L2 norm of a difference")] = None,
    buffers: Annotated[
        list[str] | None, typer.Option(help="pattern of tensors that optimisers leave alone; repeat it")
    ] = None,
    extra: Annotated[Extra | None, typer.Option(help="tensors beside the weights; else as they are")] = None,
    shard_bytes: Annotated[
        int | None, typer.Option(help="bytes of the model that are combined at once")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Combine update files into the next model, exactly as a worker does.  Needs no server."""
    given = {
        "round": round_,
        "norm_clip": norm_clip,
        "extra": extra,
        "shard_bytes": shard_bytes,
        "buffers": None if buffers is None else tuple(buffers),
    }
    told: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        asked = OfflineRound(
            strategy=strategy,
            options=told_object(options, "--options"),
            current=current,
            state=state,
            updates=tuple(_update(text) for text in update),
            out=out,
            state_out=state_out,
            update=update_kind,
            partial=partial,
            **told,
        )
    except ValidationError as error:
        raise CommandFailed(_sentences(error)) from None
    _tell(combined(asked), as_json=as_json)


def _update(text: str) -> OfflineUpdate:
    found = _UPDATE.fullmatch(text)
    if not found:
        raise CommandFailed(f"--update takes {_FORM}, not {text!r}")
    try:
        return OfflineUpdate(
            file=found["file"],
            num_examples=int(found["examples"]),
            client=found["client"] or None,
            metrics=json.loads(found["metrics"] or "{}"),
        )
    except ValidationError as error:
        raise CommandFailed(f"--update {text!r}: {_sentences(error)}") from None
    except json.JSONDecodeError as error:
        raise CommandFailed(f"--update {text!r}: its metrics are no JSON object: {error}") from None


def _tell(done: OfflineDone, *, as_json: bool) -> None:
    if as_json:
        say_json(done.model_dump(mode="json"))
        return
    table = Table("update", "client", "examples", "norm", "", box=None, header_style="bold")
    for each in done.updates:
        kept = "" if each.is_chosen else "left out"
        table.add_row(each.file, str(each.client_id), str(each.num_examples), f"{each.norm:.6g}", kept)
    console.print(table)
    if done.metrics:
        say(f"metrics: {metrics_text(done.metrics)}")
    say(f"round {done.round + 1} by {done.strategy.name}: {done.model.file} sha256 {done.model.sha256}")
    for part in done.state:
        say(f"state {part.slot}: {part.file} sha256 {part.sha256}")


def _sentences(error: ValidationError) -> str:
    faults = error.errors(include_url=False, include_input=False)
    return "; ".join(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in faults)
