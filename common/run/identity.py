"""Which run a file belongs to: an id of the data, the seed and every setting that changes what is learnt."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

NOWHERE = "not there"
# What may differ where a run goes on: where and how it computes, and how long.
FREE_PARTS = ("run",)
FREE = ("amp", "device", "folder", "max_epochs", "num_workers", "total_epochs", "total_iters", "total_steps")


def run_identity(facts: Mapping[str, Any]) -> str:
    """Return 12 hex digits for `facts` of a manifest: two runs of one id learn the same, whichever wrote a file."""
    return hashlib.sha256(json.dumps(_flat(facts), sort_keys=True).encode()).hexdigest()[:12]


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return "config.labeller.keep is 0.7, was 0.5" for all that belongs to the identity and differs."""
    old, new = _flat(before), _flat(now)
    both = {name: (new.get(name, NOWHERE), old.get(name, NOWHERE)) for name in sorted(old.keys() | new.keys())}
    return [f"{name} is {is_now!r}, was {was!r}" for name, (is_now, was) in both.items() if is_now != was]


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, Mapping):
            for key, entry in value.items():
                if key not in FREE:
                    walk(f"{name}.{key}", entry)
        else:
            found[name] = value

    config = {part: said for part, said in (facts.get("config") or {}).items() if part not in FREE_PARTS}
    walk("config", config)
    dataset = facts.get("dataset") or {}
    walk("dataset", str(dataset.get("learnt", dataset.get("sha256")))[:12])
    walk("seed", facts.get("seed"))
    return found
