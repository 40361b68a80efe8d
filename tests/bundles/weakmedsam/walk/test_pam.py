from __future__ import annotations

import pytest
import torch

from common.sam.members.preprocessing import Preprocessing
from support.bundle.path import import_bundle

pam = import_bundle("weakmedsam", "walk.pam")
InputError = import_bundle("weakmedsam", "common.errors").InputError


class Disc:
    """A backbone whose mask is a disc around a point, or the box itself, brighter with the embedding's first value."""

    name, takes_points = "disc", True

    def __init__(self, image_size: int = 64, masks: int = 16) -> None:
        self.image_size, self.masks = image_size, masks
        self.preprocessing = Preprocessing(image_size)
        self.decoded = 0

    def _places(self) -> tuple[torch.Tensor, torch.Tensor]:
        steps = (torch.arange(self.masks) + 0.5) * self.image_size / self.masks
        return torch.meshgrid(steps, steps, indexing="ij")

    def decode_points(self, embedding: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
        self.decoded += points[..., 0].numel()
        y, x = self._places()
        distance = ((x - points[..., 0, None, None]) ** 2 + (y - points[..., 1, None, None]) ** 2).sqrt()
        return embedding[:, :1, :1, 0, None] + 8 - distance

    def decode_boxes(self, embedding: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
        y, x = self._places()
        x0, y0, x1, y1 = boxes[..., None, None].unbind(2)
        return torch.where((x > x0) & (x < x1) & (y > y0) & (y < y1), 9.0, -9.0)


def test_the_intended_grid_and_the_released_one():
    intended, released = pam.point_grid(256, 4), pam.point_grid(256, 4, legacy=True)
    assert intended[:4].tolist() == [[32, 32], [96, 32], [160, 32], [224, 32]] and intended[-1].tolist() == [224, 224]
    assert released.unique().tolist() == [2, 6, 10, 14] and len(released) == 16
    assert pam.point_grid(256, 16).equal(pam.point_grid(256, 16, legacy=True))


def test_the_grid_spans_what_the_slice_covers():
    points = pam.point_grid(64, 2, covered=(64, 32))
    assert points.tolist() == [[8, 16], [24, 16], [8, 48], [24, 48]]
    boxes = pam.box_grid(64, 2, covered=(64, 32))
    assert boxes.tolist() == [[0, 0, 16, 32], [16, 0, 32, 32], [0, 32, 16, 64], [16, 32, 32, 64]]
    wide = pam.box_grid(64, 2, covered=(64, 32), scale=1.5)
    assert wide[0].tolist() == [0, 0, 20, 40] and wide[-1].tolist() == [12, 24, 32, 64]


def test_channels_are_probabilities_and_their_sum_is_of_logits():
    backbone, embedding = Disc(), torch.zeros(3, 5, 4, 4)
    channels = pam.mask_channels(backbone, embedding, count=3)
    assert channels.shape == (3, 9, 16, 16) and 0 <= channels.amin() and channels.amax() <= 1
    assert backbone.decoded == 27
    logits = backbone.decode_points(embedding, pam.point_grid(64, 3).expand(3, -1, -1))
    assert torch.allclose(channels, logits.sigmoid())
    summed = pam.mask_channels(backbone, embedding, count=3, summed=True)
    assert summed.shape == (3, 1, 16, 16) and torch.allclose(summed[:, 0], logits.sum(1), atol=1e-4)
    boxes = pam.mask_channels(backbone, embedding, "boxes", count=2)
    assert (boxes > 0.5).sum(1).eq(1).all()  # the cells part the slice


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_masks_lie_on_the_volumes_grid(axis):
    size = [8, 8, 8]
    plane = [a for a in range(3) if a != axis]
    size[plane[1]] = 4  # half of the square is padding
    backbone = Disc()
    embedding = torch.zeros(8, 2, 4, 4)
    embedding[5, 0] = 9.0
    guide = pam.mask_guide(backbone, embedding, size, axis, kind="boxes", count=2)
    assert guide.shape == (4, *size)
    cell = guide[1].movedim(axis, 0)[0]  # first row, second column of cells
    assert cell[:4, 2:].gt(0.9).all() and cell[4:].lt(0.1).all() and cell[:4, :2].lt(0.1).all()
    points = pam.mask_guide(backbone, embedding, size, axis, count=2).movedim(axis + 1, 0)
    assert (points[5] > points[4]).all() and points[3].equal(points[4])


def test_slice_by_slice_is_the_whole():
    backbone, embedding = Disc(), torch.randn(6, 2, 4, 4, generator=torch.Generator().manual_seed(0))
    whole = pam.channels_to_volume(pam.mask_channels(backbone, embedding), backbone.preprocessing, (8, 8, 6), 2)
    assert torch.allclose(pam.mask_guide(backbone, embedding, (8, 8, 6), 2), whole, atol=1e-6)


def test_a_walk_over_masks_stays_in_what_they_separate():
    walk = import_bundle("weakmedsam", "common.imaging.affinity_walk")
    guide = pam.mask_guide(Disc(), torch.zeros(2, 2, 4, 4), (16, 16, 2), 2, kind="boxes", count=2)
    maps = torch.zeros(1, 16, 16, 2)
    maps[:, 2:5, 2:5] = 1.0
    offsets = walk.half_offsets(3, 2)
    found = walk.walk(maps, walk.edge_weights(guide, offsets, 4.0, reduce="sum"), offsets, 10)
    assert found[:, :8, :8].sum() > 20 * (found.sum() - found[:, :8, :8].sum())


def test_prompts_that_cannot_be():
    backbone, embedding = Disc(), torch.zeros(1, 2, 4, 4)
    with pytest.raises(InputError, match="masks"):
        pam.mask_channels(backbone, embedding, "masks")
    with pytest.raises(InputError, match="at least 1"):
        pam.mask_channels(backbone, embedding, count=0)
    backbone.takes_points = False
    with pytest.raises(InputError, match="ignores them, wanted boxes"):
        pam.mask_channels(backbone, embedding)
    assert pam.mask_channels(backbone, embedding, "boxes").shape == (1, 16, 16, 16)
