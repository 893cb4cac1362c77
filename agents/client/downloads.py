"""Downloaded files, by their sha256: shared by tasks, trusted only when their bytes were read."""

import asyncio
from collections.abc import Collection
from pathlib import Path

from agents.client.results import sha256_of
from agents.client.training import File

_SUFFIX = ".safetensors"


class Downloads:
    """A folder of files.  What an earlier process left there is hashed before it is used."""

    def __init__(self, folder: Path, keep_unused: int = 2) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for leftover in folder.glob("*.part"):
            leftover.unlink()
        self._folder = folder
        self._keep_unused = keep_unused
        self._verified: list[str] = []  # the most recently used last

    def path(self, file: File) -> Path:
        return self._folder / f"{file.sha256}{_SUFFIX}"

    async def has(self, file: File) -> bool:
        """Whether it is there, unharmed.  A harmed one is removed."""
        path = self.path(file)
        if not path.exists():
            return False
        if file.sha256 not in self._verified and await asyncio.to_thread(sha256_of, path) != file.sha256:
            path.unlink(missing_ok=True)
            return False
        self.use(file)
        return True

    def use(self, file: File) -> None:
        """It was verified just now: when it was downloaded, or read."""
        if file.sha256 in self._verified:
            self._verified.remove(file.sha256)
        self._verified.append(file.sha256)

    def prune(self, needed: Collection[str]) -> None:
        """Remove what no open task needs, but for the most recently used."""
        kept = {*needed, *self._verified[-self._keep_unused :]}
        for path in self._folder.glob(f"*{_SUFFIX}"):
            if path.stem not in kept:
                path.unlink(missing_ok=True)
        self._verified = [sha256 for sha256 in self._verified if sha256 in kept]
