"""Read logging.conf without applying it: `fileConfig` evaluates class, args and kwargs before any config is parsed."""

from __future__ import annotations

import ast
import configparser
from collections.abc import Iterator

from .expression import dotted_name
from .findings import AllowList, Finding

EVALUATED = ("args", "kwargs", "defaults")  # of formatters since Python 3.12
OPTIONS = ("keys", "level", "handlers", "propagate", "qualname", "formatter", "format", "datefmt", "style", "validate")
_LITERAL = (ast.Expression, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.Load)
_STREAMS = ("sys.stdout", "sys.stderr")


def scan_logging(path: str, text: str, allow: AllowList) -> Iterator[Finding]:
    """Yield every class, every evaluated text and every unknown option of a logging configuration, [DEFAULT] too."""
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        yield Finding("logging", path, type(error).__name__, "can't be read as a logging configuration")
        return
    for section in (parser.default_section, *parser.sections()):
        options = parser.defaults() if section == parser.default_section else dict(parser.items(section))
        for option, value in options.items():
            where = f"{path}::{section}::{option}"
            if option == "class":
                reason = "" if allow.permits("logging", value) else "the class isn't in the allow-list"
                yield Finding("logging", where, value, reason)
            elif option in EVALUATED:
                yield Finding("logging", where, value, _judge_literal(value))
            elif section == parser.default_section:  # would stand in every section, also by interpolation
                yield Finding("logging", where, value, "[DEFAULT] may hold nothing")
            elif option not in OPTIONS:
                yield Finding("logging", where, f"{option}={value}", "an option that isn't known")


def _judge_literal(value: str) -> str:
    if "%" in value:  # fileConfig puts other options into it before it evaluates
        return "interpolation"
    try:
        tree = ast.parse(value, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "no Python literal"
    return "" if _is_literal(tree) else "more than literals and sys.stdout, sys.stderr"


def _is_literal(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return dotted_name(node) in _STREAMS
    return isinstance(node, _LITERAL) and all(_is_literal(child) for child in ast.iter_child_nodes(node))
