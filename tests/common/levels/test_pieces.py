from __future__ import annotations

import pytest
import torch

from common.errors import InputError
from common.files.tensor_files import load_strictly
from common.grid.network import BodyNetwork
from common.levels.network import LocateThenSegment
from common.levels.pieces import keep_largest, largest_share
from support.networks.bright import Bright


def test_the_share_of_the_largest_piece():
    label = torch.zeros(10, 10, 10, dtype=torch.uint8)
    label[:3, :3, :3] = 1
    label[8:, 8:, 8:], label[0, 9, 9], label[5, 0, 5] = 2, 2, 2
    assert largest_share(label) == {1: 1.0, 2: pytest.approx(0.8)}


@pytest.mark.parametrize("kind", [torch.float32, torch.float16])
def test_lesser_pieces_become_background_and_all_still_sums_to_one(kind):
    found = torch.full((3, 12, 12, 12), 0.1, dtype=kind)
    found[0] = 0.8
    for number, places in ((1, [slice(0, 4), slice(8, 10)]), (2, [slice(0, 2), slice(6, 7)])):
        for place in places:
            found[:, place, 5 * number, :] = 0.1
            found[number, place, 5 * number, :] = 0.8
    before = found.clone()
    keep_largest(found, [1])
    assert bool((found[:, 8:10, 5].argmax(0) == 0).all()) and bool((found[1, 8:10, 5] == 0).all())
    changed = torch.zeros(12, 12, 12, dtype=torch.bool)
    changed[8:10, 5] = True
    assert torch.equal(found[:, ~changed], before[:, ~changed])  # neither the largest nor another class
    torch.testing.assert_close(found.float().sum(0), torch.ones(12, 12, 12), atol=2e-3, rtol=0)


def networks() -> LocateThenSegment:
    coarse = BodyNetwork(Bright(0.2), (8, 8, 8), (8.0, 8.0, 8.0), (0, 1))
    return LocateThenSegment(coarse, BodyNetwork(Bright(0.5), (8, 8, 8), (2.0, 2.0, 2.0), (0, 1)))


@pytest.mark.parametrize("one", [None, False, True])
def test_a_model_keeps_what_it_knows_and_one_of_before_loads(one):
    image = torch.zeros(1, 1, 64, 24, 24)
    image[..., 4:14, 6:18, 6:18] = image[..., 50:56, 6:18, 6:18] = 1.0
    taught, served = networks(), networks()
    if one is not None:
        taught.fine.know_pieces([False, one])
    assert any("one_piece" in name for name in taught.state_dict()) == (one is not None)
    load_strictly(served, taught.state_dict(), "model.pt")
    other = networks()
    other.load_state_dict(taught.state_dict())
    assert other.state_dict().keys() == served.state_dict().keys()
    pred = served(image)[0].argmax(0)
    assert bool(pred[4:14].any()) and bool(pred[50:56].any()) == (not one)


def test_pieces_of_another_number_of_classes_are_refused():
    taught = networks()
    taught.fine.know_pieces([False, True, True])
    with pytest.raises(InputError, match=r"wrong-shaped tensors: fine.one_piece found \(3,\) wanted \(2,\)"):
        load_strictly(networks(), taught.state_dict(), "model.pt")
