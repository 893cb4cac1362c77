"""Identifiers that cannot be swapped by mistake."""

from typing import NewType
from uuid import UUID

UserId = NewType("UserId", UUID)
ClientId = NewType("ClientId", UUID)
ModelId = NewType("ModelId", UUID)
TrainingId = NewType("TrainingId", UUID)
TaskId = NewType("TaskId", UUID)
MessageId = NewType("MessageId", UUID)
