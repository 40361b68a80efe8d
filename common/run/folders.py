"""What a manifest or report may say of a place: its last part, never the folders, the machine or the user before it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "…"

# settings whose value is a place, whatever it looks like
_PLACE_KEYS = re.compile(
    r"(.*_)?(dirs?|directory|root|home|workspace|paths?|files?|filenames?|folders?|datalist|checkpoint|ckpt|url|uri)"
)
_ENDINGS = r"(?:nii|gz|nrrd|nhdr|mha|mhd|dcm|pt|pth|ts|onnx|safetensors|json|ya?ml|csv|txt|list|log|html?|png|zip|py)"
# what a place begins with: file:///, s3://, ~/, ~user/, ./, ../, C:\, \\server\, /, $HOME/, ${HOME}/, %USERPROFILE%\
_START = (
    r"(?:[A-Za-z][A-Za-z0-9+.-]*:/{1,3}|~[\w.-]*[/\\]|\.{1,2}[/\\]|[A-Za-z]:[/\\]|\\\\|/{1,2}"
    r"|\$\{?\w+\}?[/\\]|%\w+%[/\\])"
)
_NAME = r"[^\s/\\'\"<>|]+"
# a word of a folder's name that goes on behind a space: no end of a clause, and no end of a file's name
_WORD = rf"(?!\S*\.{_ENDINGS}[,.)\]]*[ ])[^\s/\\'\"<>|]*[^\s/\\'\"<>|:;)\]}}][ ]"
_FOLDERS = rf"(?:(?:{_WORD}){{0,6}}?{_NAME}[/\\]+)"
_BEFORE = r"(?:(?<=^)|(?<=[\s'\"=(\[{<>,;:|]))"
_PLACED = re.compile(
    rf"{_BEFORE}(?:/{_FOLDERS}+(?=[^\s/\\])|(?!/[^/]){_START}{_FOLDERS}*(?=[^\s/\\])|~[A-Za-z_][\w.-]*(?![\w/\\]))"
)
# nothing marks its beginning: two folders at least, or one and a file
_BARE = re.compile(
    rf"{_BEFORE}(?![\d./]+(?:[\s,;:)]|$))(?:[^\s/\\'\"<>|=(\[{{,;:$@%]+[/\\])"
    rf"(?:(?:{_NAME}[/\\])+|(?=[^\s/\\'\"<>|]+\.{_ENDINGS}\b))(?=[^\s/\\])"
)
_ACCOUNT = re.compile(r"(?<=://)[^\s/@'\"]*@")
_QUERY = re.compile(r"(://[^\s?#'\"]*)[?#][^\s'\"]*")
_QUOTED = re.compile(r"(?P<quote>['\"])(?P<text>[^'\"\n]*[/\\][^'\"\n]*)(?P=quote)")
# not between numbers, units or alternatives: 1 / 2, Dice / HD95
_PARTED = re.compile(r"\s[/\\]|[/\\]\s")
_CLAUSE = re.compile(r"\n|[:,;]\s|\s[/~]")


def without_paths(value: Any) -> Any:
    """Shorten each place in a text, or in all texts of nested lists and dicts, to its last part ("…/name").

    The value of a key that names a place (`dataset_dir`, `ckpt_path`, `datalist`) is a place even where it looks like
    none. In other texts a place is what begins as one (/, ~, ~user/, ./, ../, C:\\, \\\\server\\, $VAR/, %VAR%\\, any
    scheme://), a path in quotes, two folders or more, and a folder with a file of a known kind. What is left of a URL
    is without its query.
    """
    if isinstance(value, Mapping):
        return {
            without_paths(str(key)): _last_parts(entry) if _PLACE_KEYS.fullmatch(str(key)) else without_paths(entry)
            for key, entry in value.items()
        }
    if isinstance(value, list | tuple | set):
        return [without_paths(entry) for entry in value]
    if isinstance(value, os.PathLike):
        return _last_part(os.fspath(value))
    if not isinstance(value, str):
        return value
    value = _QUERY.sub(r"\1", _ACCOUNT.sub("", value))
    # a text that is nothing but a place may hold spaces, which would end one inside a sentence
    if _is_place(value):
        return _last_part(value)
    text = _QUOTED.sub(_hide_quoted, value)
    return _BARE.sub(f"{HIDDEN}/", _PLACED.sub(_hide, text))


def _last_parts(value: Any) -> Any:
    """Shorten all texts of the value of a key that names a place."""
    if isinstance(value, list | tuple | set):
        return [_last_parts(entry) for entry in value]
    return _last_part(value) if isinstance(value, str) else without_paths(value)


def _last_part(text: str) -> str:
    """Return "…/name" for a place with folders, "…" where its last part names a user or a variable, else the text."""
    place = _QUERY.sub(r"\1", _ACCOUNT.sub("", text))
    parts = [part for part in re.split(r"[/\\]+", place) if part]
    if not parts or parts == [text]:
        return HIDDEN if re.match(r"~.|\.\.$|\$\w|\$\{|%\w+%", text) else text
    return (
        f"{HIDDEN}/{parts[-1]}" if not re.fullmatch(r"~.*|\.{1,2}|[A-Za-z][\w+.-]*:|\$.*|%\w+%", parts[-1]) else HIDDEN
    )


def _is_place(text: str) -> bool:
    if len(text) < 2 or _CLAUSE.search(text):
        return False
    if re.match(_START, text):
        return not re.match(r"[/\\]\s", text)
    last = rf"[/\\]$|\.{_ENDINGS}$"
    return bool(re.match(r"\S*\w[/\\]", text) and re.search(last, text)) and not _PARTED.search(text)


def _hide(found: re.Match) -> str:
    return HIDDEN if found[0].startswith("~") and found[0][-1] not in "/\\" else f"{HIDDEN}/"


def _hide_quoted(found: re.Match) -> str:
    """Shorten what is quoted if it is a place: with spaces between its words, but not around what parts them."""
    text, quote = found["text"], found["quote"]
    begins = re.match(rf"{_START}.*[^/\\][/\\].", text) or re.match(rf"(?!/){_START}", text)
    if _CLAUSE.search(text) or not (begins or (re.search(r"\w[/\\]\w", text) and not _PARTED.search(text))):
        return found[0]
    return f"{quote}{_last_part(text)}{quote}"
