"""Time, as messages: what a durable timer says when it is due."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.message import Attempt, Round, TrainingMessage


class RoundTimedOut(TrainingMessage):
    type: Literal["RoundTimedOut"] = "RoundTimedOut"
    round: Round
    attempt: Attempt


class EvaluationTimedOut(TrainingMessage):
    type: Literal["EvaluationTimedOut"] = "EvaluationTimedOut"
    round: Round


TimerMessage = Annotated[RoundTimedOut | EvaluationTimedOut, Field(discriminator="type")]
