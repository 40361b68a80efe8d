"""The plain network that learns the same masks, and its share in the pseudo labels."""

from __future__ import annotations

import math

import pytest
import torch
from monai.networks.nets import UNet
from torch import nn

from support.ada_sam.structures import SIZE
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "learning.slice_unet")
InputError = import_bundle("ada_sam", "common.errors").InputError


class Fixed(nn.Module):
    """Answer every image with the same logits, which learn."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(image)]


def batch(count: int = 3, rows: int = 4) -> dict[str, torch.Tensor]:
    """A slice with a mask of class 1; one with the bit of class 2 and no mask; an empty one."""
    mask = torch.full((3, rows, rows), -1)
    mask[0] = 0
    mask[0, 1:3] = 1
    return {
        "image": torch.rand(3, 1, rows, rows)[:count],
        "presence": torch.tensor([[1.0, 0], [0, 1], [0, 0]])[:count],
        "mask": mask[:count],
        "annotated": torch.tensor([1.0, 0, 0])[:count],
    }


@pytest.mark.parametrize(("masks", "wanted"), [(5, 1 / 7), (30, 0.5), (120, 0.8)])
def test_the_more_masks_the_larger_the_share(masks, wanted):
    assert module.unet_share("auto", masks) == pytest.approx(wanted)
    assert module.unet_share("0.25", masks) == 0.25 and module.unet_share(0, masks) == 0


@pytest.mark.parametrize("share", [-0.1, 1.5, "half", None, math.nan])
def test_a_share_that_cannot_be(share):
    with pytest.raises(InputError, match=r"unet_share is .*; wanted a number from 0 to 1, or 'auto'"):
        module.unet_share(share, 5)


def test_cross_entropy_counts_what_is_known_of_each_slice():
    torch.manual_seed(0)
    logits = torch.randn(3, 3, 4, 4)
    given = batch()
    losses = module.SliceUNetObjective(Fixed(logits))(given)
    probabilities = logits.softmax(1)
    drawn = nn.functional.cross_entropy(logits[:1], given["mask"][:1])
    bit = -(1 - probabilities[1, 1]).log().mean()  # class 1 is not there; background or class 2 may be
    empty = -probabilities[2, 0].log().mean()
    torch.testing.assert_close(losses["cross_entropy"], (drawn + bit + empty) / 3)
    torch.testing.assert_close(losses["loss"], losses["dice"] + losses["cross_entropy"])


def test_gradients_are_finite_and_masks_of_other_slices_are_not_read():
    torch.manual_seed(0)
    network = Fixed(40 * torch.randn(3, 3, 4, 4))
    given = batch()
    losses = module.SliceUNetObjective(network)(given)
    losses["loss"].backward()
    assert torch.isfinite(network.logits.grad).all() and network.logits.grad.abs().sum() > 0
    given["mask"][1:] = 2
    again = module.SliceUNetObjective(network)(given)
    assert {name: float(value) for name, value in again.items()} == {n: float(v) for n, v in losses.items()}


def test_a_batch_without_a_mask_has_no_dice():
    losses = module.SliceUNetObjective(Fixed(torch.randn(3, 3, 4, 4)))(batch() | {"annotated": torch.zeros(3)})
    assert float(losses["dice"]) == 0 and math.isfinite(float(losses["loss"]))


def test_a_network_learns_a_disc_from_one_mask():
    torch.manual_seed(0)
    network = UNet(2, 1, 2, (8, 16), (2,), norm="instance")
    rows, columns = torch.meshgrid(torch.arange(16.0), torch.arange(16.0), indexing="ij")
    disc = ((rows - 7) ** 2 + (columns - 9) ** 2 < 16).long()
    image = torch.stack([0.2 + 0.6 * disc, torch.full((16, 16), 0.2)])[:, None]
    given = {
        "image": image,
        "presence": torch.tensor([[1.0], [0.0]]),
        "mask": torch.stack([disc, torch.full_like(disc, -1)]),
        "annotated": torch.tensor([1.0, 0.0]),
    }
    objective = module.SliceUNetObjective(network)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        objective(given)["loss"].backward()
        optimizer.step()
    found = module.segment_slices(network, image, 2).argmax(0)  # [16, 16, 2]
    assert found[..., 0].equal(disc) and not found[..., 1].any() and network.training


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_stand_where_they_were_and_the_gate_holds(axis):
    class Brightness(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(1))

        def forward(self, image):
            return torch.cat([torch.zeros_like(image), 100 * self.scale * (image - 0.5)], 1)

    volume = torch.rand(SIZE)
    planes = volume.movedim(axis, 0)[:, None]
    found = module.segment_slices(Brightness(), planes, axis)
    assert found.shape == (2, *SIZE) and found.argmax(0).equal((volume > 0.5).long())
    gate = torch.ones(1, SIZE[axis], dtype=torch.bool)
    gate[0, 3] = False
    kept = module.gated(found, gate, axis)
    assert not kept[1].movedim(axis, 0)[3].any() and (kept[0].movedim(axis, 0)[3] == 1).all()
    assert kept[1].movedim(axis, 0)[4].equal(found[1].movedim(axis, 0)[4])
    torch.testing.assert_close(kept.sum(0), torch.ones(SIZE))
