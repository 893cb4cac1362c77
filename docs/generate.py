"""Writes every page that follows from the schemas: `python -m docs.generate [--check]`."""

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import yaml

from docs.asyncapi import asyncapi, json_schemas
from docs.catalogue import messages_page, readme_table

ROOT = Path(__file__).parents[1]
SCHEMAS = Path("docs/schemas")
README = Path("README.md")
BEGIN, END = "<!-- messages:begin -->", "<!-- messages:end -->"


def pages(root: Path = ROOT) -> dict[Path, str]:
    """What each generated file is to hold, by its path below the root."""
    schemas = {SCHEMAS / f"{name}.json": _json(schema) for name, schema in json_schemas().items()}
    return {
        Path("docs/messages.md"): messages_page(),
        Path("docs/asyncapi.yaml"): yaml.safe_dump(
            asyncapi(), sort_keys=False, allow_unicode=True, width=110
        ),
        README: _with_table((root / README).read_text()),
        **schemas,
    }


def drifted(root: Path = ROOT) -> tuple[Path, ...]:
    """Files that are not what the schemas say, and schemas of messages that are no more."""
    wanted = pages(root)
    stale = [path for path, text in wanted.items() if not _holds(root / path, text)]
    return *stale, *_left_over(root, wanted)


def write(root: Path = ROOT) -> tuple[Path, ...]:
    """Bring every generated file up to date; returns those that changed."""
    wanted, changed = pages(root), drifted(root)
    for path in changed:
        if path in wanted:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(wanted[path])
        else:
            (root / path).unlink()
    return changed


def main(arguments: list[str]) -> int:
    is_check = arguments == ["--check"]
    if arguments and not is_check:
        sys.stderr.write("usage: python -m docs.generate [--check]\n")
        return 2
    changed = drifted() if is_check else write()
    for path in changed:
        sys.stdout.write(f"{path} {'has drifted: run python -m docs.generate' if is_check else 'written'}\n")
    return int(is_check and bool(changed))


def _holds(path: Path, text: str) -> bool:
    return path.exists() and path.read_text() == text


def _left_over(root: Path, wanted: Mapping[Path, str]) -> list[Path]:
    found = (path.relative_to(root) for path in sorted((root / SCHEMAS).glob("*.json")))
    return [path for path in found if path not in wanted]


def _json(schema: object) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _with_table(readme: str) -> str:
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(
            f"{README} must hold {BEGIN} and, after it, {END}: the table of messages goes between"
        )
    return f"{before}{BEGIN}\n{readme_table()}\n{END}{after}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
