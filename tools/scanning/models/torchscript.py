"""TorchScript by its tokens: what it could do to files, and operators that only a library beside it could bring."""

from __future__ import annotations

import io
import token
import tokenize
from collections.abc import Iterator

NAMESPACES = ("torch", "aten", "ops")
_HARMFUL = ("save", "load", "from_file", "classes")  # how such operators begin, underscores aside
_OWN = ("prim", "aten")  # what `ops` may lead to
_PASSED_OVER = (token.NL, token.NEWLINE, token.INDENT, token.DEDENT, token.COMMENT, token.ENCODING, token.ENDMARKER)
_NO_SIGNS = ("?", "!", "$", "`")  # to the tokenizer of Python 3.12 and later some of them are operators


def harmful_operators(code: bytes) -> list[str]:
    """Return the operators in a file of TorchScript code that read or write files or need a library, and what hides.

    Blanks, line breaks and comments between the parts of a name change nothing.
    """
    try:
        return list(dict.fromkeys(_find(code)))
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError, ValueError) as error:
        return [f"can't be read ({type(error).__name__})"]


def _find(code: bytes) -> Iterator[str]:
    tokens = tokenize.generate_tokens(io.StringIO(code.decode("ascii")).readline)
    kept = [item for item in tokens if item.type not in _PASSED_OVER]
    texts = [item.string for item in kept]
    for index, item in enumerate(kept):
        if item.type == token.ERRORTOKEN or item.string in _NO_SIGNS:
            yield f"a sign that is no code: {item.string!r}"
        elif item.type == token.STRING and (item.string[0] not in "'\"" or item.string[:3] in ("'''", '"""')):
            yield "a kind of text in which code can hide"
        elif item.type == token.NAME and item.string in ("import", "exec", "eval"):
            yield item.string
        elif item.type == token.NAME and item.string in NAMESPACES and texts[index - 1 : index] != ["."]:
            parts = [item.string]
            while texts[index + 1 : index + 2] == ["."]:
                parts.append(texts[index + 2] if index + 2 < len(texts) else "")
                index += 2
            if len(parts) == 1 or _is_harmful(parts):
                yield ".".join(parts)


def _is_harmful(parts: list[str]) -> bool:
    named = any(part.strip("_").startswith(_HARMFUL) for part in parts[1:])
    return named or (parts[0] == "ops" and (len(parts) < 3 or parts[1] not in _OWN))
