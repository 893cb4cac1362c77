"""What a site may change about its agent."""

import os
import sys
from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "WARREN_AGENT_"


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    credentials: Path  # JSON, as enrolment gave it
    data: Path = Path("warren-agent")  # journal, models, updates: one folder per agent
    script: Path | None = None  # either a training script …
    trainer: str | None = Field(default=None, pattern=r"^[\w.]+:\w+$")  # … or package.module:Class
    executor: str = sys.executable  # the interpreter that runs the script
    workdir: Path = Path()  # where user code runs
    preload: tuple[
        str, ...
    ] = ()  # modules a warm interpreter has imported before the script runs in its fork
    policy: Path | None = None  # TOML: accept, refuse, max_model_mb
    keep_state: bool = True  # the user code's own folder outlives its training
    parallel_tasks: int = Field(default=1, ge=1, le=64)
    heartbeat_s: float = Field(default=5.0, gt=0)
    grace_s: float = Field(default=10.0, ge=0)  # to finish what runs when asked to stop
    patience_s: float = Field(default=2.0, ge=0)  # between asking user code to end and killing it
    prefetch: int = Field(default=16, ge=1, le=1_000)
    log_level: str = "INFO"
    keep_closed_days: float = Field(default=30.0, gt=0)  # how long the journal remembers closed tasks

    @model_validator(mode="after")
    def _has_user_code(self) -> "Settings":
        if (self.script is None) == (self.trainer is None):
            raise ValueError("give the user code either as a script or as a trainer class, not both")
        if self.preload and self.script is None:
            raise ValueError("preload is for scripts; a trainer class stays in its process anyway")
        return self


def inherited_environment() -> dict[str, str]:
    """What user code sees of ours: everything but what is Warren's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WARREN_")}
