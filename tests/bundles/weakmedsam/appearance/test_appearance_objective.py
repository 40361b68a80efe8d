"""The objective of the appearance rounds: labels that share a map, and labels that must not confuse each other."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from support.bundle.path import import_bundle

appearance = import_bundle("weakmedsam", "appearance")


class Fixed(nn.Module):
    """A network of logits that are told."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits.clone())

    def forward(self, image: Tensor) -> Tensor:
        return self.logits


def losses_of(logits: Tensor, target: Tensor, presence: Tensor, groups: list[int]) -> dict[str, float]:
    objective = appearance.AppearanceObjective(Fixed(logits), groups)
    found = objective({"image": torch.zeros(1, 1, 4, 4, 4), "target": target, "presence": presence})
    found = {name: float(value.detach()) for name, value in found.items()}
    assert set(found) == {"loss", "cross_entropy", "dice"}
    assert found["loss"] == pytest.approx(found["cross_entropy"] + found["dice"])
    return found


def gradient_of(logits: Tensor, target: Tensor, presence: Tensor, groups: list[int]) -> Tensor:
    """Return how much each logit is pulled at, [B, G, H, W, D]."""
    objective = appearance.AppearanceObjective(Fixed(logits), groups)
    objective({"image": torch.zeros(1, 1, 4, 4, 4), "target": target, "presence": presence})["loss"].backward()
    return objective.network.logits.grad


def two_labels() -> Tensor:
    """Two labels [1, 2, 4, 4, 4] that overlap."""
    target = torch.zeros(1, 2, 4, 4, 4)
    target[:, 0, :2], target[:, 1, 1:3, :2] = 1.0, 1.0
    return target


def test_labels_of_one_group_are_learnt_as_their_union():
    target = two_labels()
    everywhere, union = torch.ones_like(target), target.amax(1, keepdim=True)
    maps = {"union": 20 * union - 10, "first": 20 * target[:, :1] - 10, "none": 0 * union - 10}
    losses = {name: losses_of(logits, target, everywhere, [0, 0]) for name, logits in maps.items()}
    assert losses["union"]["loss"] < 0.01 < losses["first"]["loss"] < losses["none"]["loss"]
    assert losses["none"]["dice"] == pytest.approx(1 - 1 / (int(union.sum()) + 1), abs=1e-3)
    assert gradient_of(maps["first"], target, everywhere, [0, 0]).abs().sum() > 0
    found = losses_of(torch.zeros_like(union), 0.5 * torch.ones_like(target), everywhere, [0, 0])
    assert found["cross_entropy"] == pytest.approx(np.log(2)) and found["dice"] == pytest.approx(0.5, abs=0.01)


def test_groups_are_learnt_each_by_itself():
    target = two_labels()
    everywhere = torch.ones_like(target)
    own, union = 20 * target - 10, (20 * target.amax(1, keepdim=True) - 10).expand(-1, 2, -1, -1, -1)
    losses = [losses_of(logits, target, everywhere, [0, 1])["loss"] for logits in (own, union, own.flip(1))]
    assert losses[0] < 0.01 < losses[1] < losses[2]
    # where both may be each is background for the other
    pulled = gradient_of(torch.zeros_like(target), target, everywhere, [0, 1])
    assert ((pulled < 0) == (target > 0)).all() and (pulled != 0).all()


def test_three_labels_of_two_groups():
    target = torch.zeros(1, 3, 4, 4, 4)
    for row in range(3):
        target[:, row, row] = 1.0
    merged = torch.stack([target[:, [0, 2]].amax(1), target[:, 1]], dim=1)
    everywhere = torch.ones_like(target)
    assert losses_of(20 * merged - 10, target, everywhere, [0, 1, 0])["loss"] < 0.01
    assert losses_of(20 * merged.flip(1) - 10, target, everywhere, [0, 1, 0])["loss"] > 1


def test_what_another_group_covers_teaches_nothing_where_this_one_is_absent():
    target, presence = torch.zeros(1, 2, 4, 4, 4), torch.zeros(1, 2, 4, 4, 4)
    presence[:, 0, ..., :2], presence[:, 1, ..., 1:] = 1.0, 1.0  # both on slice 1, none alone on all
    target[:, 0, :2, :, :2], target[:, 1, 2:, :, 1:] = 1.0, 1.0
    pulled = gradient_of(torch.zeros_like(target), target, presence, [0, 1])[0]
    left_out = torch.zeros(2, 4, 4, 4, dtype=torch.bool)
    left_out[0, 2:, :, 2:] = True  # the second one, where the first is absent
    left_out[1, :2, :, :1] = True
    assert pulled[left_out].eq(0).all() and pulled[~left_out].ne(0).all()
    assert pulled[0, 2:, :, 1].gt(0).all()  # on the slice of both the first is not where the second is
    assert pulled[0, :2, :, 2:].gt(0).all()  # what no other covers is background where the bit is 0
    # whatever it says there
    said = 20 * target - 10
    before = losses_of(said, target, presence, [0, 1])
    assert losses_of(torch.where(left_out[None], 10.0, said), target, presence, [0, 1]) == before
    assert before["loss"] < 0.01
    # in one group both are one structure, which is on every slice
    assert gradient_of(torch.zeros_like(target[:, :1]), target, presence, [0, 0]).ne(0).all()


def test_what_is_left_out_is_as_soft_as_the_other_label():
    target, presence = torch.zeros(1, 3, 4, 4, 4), torch.ones(1, 3, 4, 4, 4)
    presence[:, 0] = 0  # the first label is on no slice
    target[:, 1, 0], target[:, 1, 1], target[:, 2, 1], target[:, 2, 2] = 0.5, 0.25, 0.75, 1.0
    assert appearance.others(target)[0, :, :, 0, 0].tolist() == [
        [0.5, 0.75, 1, 0],  # the largest of the other two
        [0, 0.75, 1, 0],
        [0.5, 0.25, 0, 0],
    ]
    logits = torch.zeros_like(target)
    entropy = losses_of(logits, target, presence, [0, 1, 2])["cross_entropy"]
    share = torch.tensor([0.5, 0.25, 0, 1]).mean()
    assert entropy == pytest.approx(float(np.log(2) * (share + 2) / 3))
    assert appearance.others(torch.ones(1, 2, 1, 1, 1)).eq(1).all()  # both cover all of it
    assert appearance.others(torch.ones(1, 1, 1, 1, 1)).eq(0).all()  # there is no other


def test_beyond_the_scan_nothing_is_learnt():
    logits, target = torch.randn(1, 2, 4, 4, 4, generator=torch.manual_seed(0)), two_labels()
    batch = {"image": torch.zeros(1, 1, 4, 4, 4), "target": target, "presence": torch.ones(1, 2, 4, 4, 4)}
    cut = {name: volume[..., :3, :] for name, volume in batch.items()}
    wanted = appearance.AppearanceObjective(Fixed(logits[..., :3, :]), [0, 1])(cut)
    inside = torch.ones(1, 1, 4, 4, 4)
    inside[..., 3, :] = 0
    batch["target"] = target * inside
    objective = appearance.AppearanceObjective(Fixed(logits), [0, 1])
    found = objective({**batch, "inside": inside})
    for name, loss in wanted.items():
        torch.testing.assert_close(found[name], loss)
    found["loss"].backward()
    assert objective.network.logits.grad[..., 3, :].abs().max() == 0
