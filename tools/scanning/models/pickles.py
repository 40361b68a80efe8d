"""Read a pickle's instructions without carrying them out: which classes and functions would it import and call?"""

from __future__ import annotations

import io
import pickletools
from typing import IO, Any

_MARK = object()
_UNKNOWN = object()
_PUT = ("PUT", "BINPUT", "LONG_BINPUT")
_GET = ("GET", "BINGET", "LONG_BINGET")
_EXTENSIONS = ("EXT1", "EXT2", "EXT4")
_CALLING = ("REDUCE", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "BUILD")


def pickled_names(file: IO[bytes] | bytes) -> tuple[list[str], list[str]]:
    """Return the dotted names that one pickle refers to, and what made it impossible to be sure of them.

    Follows the stack and the memo, so that names put together by STACK_GLOBAL are found as well. A file is read up to
    the end of its first pickle.
    """
    names, problems, _ = _read(io.BytesIO(file) if isinstance(file, bytes) else file)
    return names, problems


def executed_names(content: bytes) -> list[str]:
    """Return what loading a file as a pickle would call; nothing where it only looks a little like one."""
    names, _, called = _read(io.BytesIO(content))
    return [name for name in names if all(map(str.isidentifier, name.split(".")))] if called else []


def _read(file: IO[bytes]) -> tuple[list[str], list[str], bool]:
    """Follow a pickle to its end, or to what is no instruction: all before it would be carried out."""
    called = False
    names: dict[str, None] = {}
    problems: dict[str, None] = {}
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    try:
        for operation, argument, _ in pickletools.genops(file):
            name = operation.name
            if name in ("GLOBAL", "INST"):
                names[".".join(str(argument).split(" ", 1))] = None
            elif name == "STACK_GLOBAL":
                module, attribute = stack[-2:] if len(stack) > 1 else (_UNKNOWN, _UNKNOWN)
                if isinstance(module, str) and isinstance(attribute, str):
                    names[f"{module}.{attribute}"] = None
                else:
                    problems["a name that is computed while loading"] = None
            elif name in _EXTENSIONS:
                problems["a name by its number in copyreg"] = None
            elif name in _PUT:
                memo[argument] = stack[-1] if stack else _UNKNOWN
                continue
            elif name == "MEMOIZE":
                memo[len(memo)] = stack[-1] if stack else _UNKNOWN
                continue
            elif name in _GET:
                stack.append(memo.get(argument, _UNKNOWN))
                continue
            _follow(stack, operation, argument)
            called |= name in _CALLING
    except (ValueError, IndexError, AttributeError, TypeError, OverflowError, MemoryError) as error:
        problems[f"no sound pickle ({type(error).__name__})"] = None
    return list(names), list(problems), called


def _follow(stack: list[Any], operation: pickletools.OpcodeInfo, argument: Any) -> None:
    """Change the stack as the instruction would, with placeholders for what isn't a string."""
    before = operation.stack_before
    if pickletools.markobject in before:
        while stack.pop() is not _MARK:
            pass
        before = before[: before.index(pickletools.markobject)]
    elif operation.name == "POP" and stack and stack[-1] is _MARK:
        before = [pickletools.anyobject]
    for _ in before:
        stack.pop()
    for kind in operation.stack_after:
        if kind is pickletools.markobject:
            stack.append(_MARK)
        else:
            stack.append(argument if isinstance(argument, str) and not operation.stack_before else _UNKNOWN)
