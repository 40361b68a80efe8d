"""What bundles share is merged into their configs, and nothing of their own is lost."""

from __future__ import annotations

import pytest

from common.errors import InputError
from tools.configs import merge

OWN = {"a": 1, "mine": 2, "net": {"_target_": "UNet", "channels": [4, 8]}}


def test_shared_keys_are_replaced_and_own_ones_stay():
    shared = {"a": 3, "b": 4, "net": {"_target_": "UNet", "norm": "batch"}}
    assert list(merge(OWN, shared).items()) == [
        ("a", 3),
        ("b", 4),  # behind the key that it follows in the template
        ("mine", 2),
        ("net", {"norm": "batch", "_target_": "UNet", "channels": [4, 8]}),
    ]


def test_a_default_is_for_who_has_none():
    assert merge(OWN, {"a?": 3, "b?": 4}) == {**OWN, "b": 4}


def test_two_components_are_not_mixed():
    with pytest.raises(InputError, match=r"net: is a UNet; wanted the template's VNet, or net\? there"):
        merge(OWN, {"net": {"_target_": "VNet"}})
