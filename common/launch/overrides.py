"""The command line of MONAI's bundles, read beside its configs: MONAI itself adds any unknown key without a word."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMANDS = ("run", "run_workflow")
RESERVED = ("_target_", "_disabled_", "_requires_", "_desc_", "_mode_")  # a component reads these itself
CLOSE = 0.6


@dataclass
class Command:
    """What a command line asks for.

    config: the configs as they stand, merged, and metadata.json as `_meta_`, with all known overrides.
    given: key, value and default of each known override, in their order; the default is what the config says without.
    problems: a line for each override that names no key, with the closest known one.
    """

    config: Any
    given: list[tuple[str, Any, Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def read_command(argv: Sequence[str] | None = None, config_files: Sequence[str] | str | None = None) -> Command | None:
    """Read the configs and overrides of `python -m monai.bundle run`, from the command line and its args_file.

    An override `a`, `a#b` or `a::b` (also with a leading `+`) is known where the key exists in the merged configs or
    in metadata.json (as `_meta_#key`), where an earlier override made it, and where its parent is a component
    (`_target_`), whose constructor refuses what it doesn't know.

    Args:
        argv: the command line; left out, that of this process.
        config_files: the configs to look into; left out, those of the command line.

    Returns:
        None where the process was not started as `monai.bundle run`: in pytest, MONAI Label, a script of one's own.
    """
    given = read_arguments(argv)
    if given is None:
        return None
    from monai.bundle import ConfigParser, ConfigWorkflow, create_workflow, run

    arguments = dict(given)
    if isinstance(arguments.get("args_file"), str):  # holds defaults for the arguments and overrides alike
        stored = ConfigParser.load_config_file(arguments["args_file"])
        given = [*stored.items(), *given]
        arguments = {**stored, **arguments}
    files = arguments.get("config_file") if config_files is None else config_files
    if files is None:
        return None  # nothing to compare with; MONAI says what is missing
    files = [files] if isinstance(files, str) else list(files)
    parameters = [p for f in (run, create_workflow, ConfigWorkflow) for p in inspect.signature(f).parameters.values()]
    own = {parameter.name for parameter in parameters if parameter.kind is not parameter.VAR_KEYWORD}
    config = ConfigParser()
    config.read_config(files)
    metadata = arguments.get("meta_file") or str(Path(files[0]).parent / "metadata.json")
    if not isinstance(metadata, str) or Path(metadata).is_file():
        config.read_meta(metadata)

    command = Command(config)
    for key, value in given:
        if key in own:
            continue
        name = key.removeprefix("+")
        if value is None:  # MONAI would pass over it without a word
            command.problems.append(f"--{key} None: wanted --{key} '$None'")
        elif not _is_known(config, name):
            command.problems.append(_describe(config, key, [Path(file).name for file in files]))
        elif not key.startswith("+"):
            command.given.append((name, value, config[name] if name in config else None))
            config[name] = value  # a later override may reach into what this one brings
    return command


def read_arguments(argv: Sequence[str] | None = None) -> list[tuple[str, Any]] | None:
    """Return keys and values of a command line's flags, as python-fire reads them; None as of `read_command`."""
    argv = list(sys.argv if argv is None else argv)
    if len(argv) < 2 or Path(argv[0]).parts[-3:] != ("monai", "bundle", "__main__.py") or argv[1] not in COMMANDS:
        return None
    from fire.parser import DefaultParseValue

    return [(key, DefaultParseValue(value)) for key, value in parse_flags(argv[2:])]


def is_expression(value: Any) -> bool:
    """Whether MONAI evaluates a text, looks up what it refers to, or copies it from another place."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def parse_flags(arguments: Sequence[str]) -> list[tuple[str, str]]:
    """Split `--key value`, `--key=value` and `--key` into keys and texts, as python-fire does.

    Fire turns `-` inside a key into `_`, reads a key without a value as True, and `--nokey` without a value as
    `key` False. What is not part of a flag is left out.
    """
    arguments = list(arguments)
    if "--" in arguments:  # what follows the last one is for fire itself
        arguments = arguments[: len(arguments) - 1 - arguments[::-1].index("--")]
    if "-" in arguments:  # ends the arguments of the command
        arguments = arguments[: arguments.index("-")]
    flags = []
    position = 0
    while position < len(arguments):
        argument, following = arguments[position], arguments[position + 1 : position + 2]
        position += 1
        if not _is_flag(argument):
            continue
        key, equals, value = argument.lstrip("-").partition("=")
        key = key.replace("-", "_")
        if not equals and following and not _is_flag(following[0]):
            value = following[0]
            position += 1
        elif not equals:
            key, value = (key[2:], "False") if key.startswith("no") else (key, "True")
        flags.append((key, value))
    return flags


def _is_flag(argument: str) -> bool:
    return argument.startswith("--") or re.match(r"-[a-zA-Z]", argument) is not None


def _is_known(config: Any, name: str) -> bool:
    if not name or name in config:
        return bool(name)  # "" would be the whole config
    parent, separator, last = name.replace("#", "::").rpartition("::")
    if not separator or parent not in config or not isinstance(config[parent], dict):
        return False
    return "_target_" in config[parent] and (last in RESERVED or not last.startswith("_"))


def _describe(config: Any, key: str, files: list[str]) -> str:
    separator = "::" if "::" in key else "#"
    known = list(_walk(config.get(), separator))
    name = key.removeprefix("+")
    last = name.rpartition(separator)[2]
    # the right name in the wrong place, as --max_epochs for train#trainer#max_epochs, comes before similar names
    elsewhere = [candidate for candidate in known if candidate.rpartition(separator)[2] == last]
    close = difflib.get_close_matches(name, elsewhere or known, n=1, cutoff=0.0 if elsewhere else CLOSE)
    hint = f"; the closest is --{close[0]}" if close else ""
    return f"--{key}: no such key in {', '.join(files)}{hint}"


def _walk(config: Any, separator: str, prefix: str = "") -> Iterator[str]:
    """Yield the id of every item, the upper levels first, so that they win among equally close ones."""
    items = list(config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ())
    for key, _ in items:
        yield f"{prefix}{key}"
    for key, value in items:
        yield from _walk(value, separator, f"{prefix}{key}{separator}")
