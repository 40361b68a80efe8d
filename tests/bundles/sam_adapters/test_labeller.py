from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from support.bundle.path import import_bundle

SliceLabeller = import_bundle("sam_adapters", "labeller").SliceLabeller
Grid = import_bundle("sam_adapters", "common.grid.grid").Grid
SIZE = (8, 8, 4)


class Halves:
    """Stand for the adapted SAM: sure that the first half of the rows is the structure."""

    settings = {"decoder": "none"}  # noqa: RUF012

    def state_dict(self):
        return {}

    def trained(self):
        return []

    def segment(self, embeddings, planes):
        found = torch.zeros(2, *planes[:, 0].shape)
        found[1, :, : planes.shape[2] // 2] = 0.75
        found[1, :, planes.shape[2] // 2 :] = 0.25
        found[0] = 1 - found[1]
        return found


class Features:
    """Stand for SAM's features: the slices of the image that was noted last."""

    def note(self, case, image):
        self.image = image

    def embedding(self, case):
        return torch.zeros(self.image.shape[-1], 1, 1, 1)

    def all_planes(self, case):
        return self.image.movedim(-1, 0)


@pytest.fixture
def labeller(tmp_path):
    share = torch.zeros(2, *SIZE)
    share[0], share[1, 3, 3, 2] = 1.0, 0.3  # of a structure that is smaller than a voxel
    share[0] -= share[1]
    share[..., 3] = 0  # beyond the scan
    images = [
        {"case": "drawn", "image": torch.rand(1, *SIZE), "label": share},
        {"case": "not", "image": torch.rand(1, *SIZE)},
    ]
    grid = Grid(SIZE, (2.0, 2.0, 5.0), (0, 7))
    cohort = SimpleNamespace(grid=grid, slice_grid=grid, slice_axis=2, labels={0: "background", 7: "organ"})
    return SliceLabeller(cohort, images, images, Features(), Halves(), str(tmp_path / "labels"), pseudo_weight=0.5)


def test_a_true_label_keeps_the_share_of_what_is_smaller_than_a_voxel(labeller):
    found = labeller.load("drawn")
    assert found["target"][1, 3, 3, 2] == pytest.approx(0.3)
    assert (found["weight"][..., :3] == 1).all() and (found["weight"][..., 3] == 0).all()


def test_an_unlabelled_volume_gets_the_sams_masks_with_their_weight_and_what_can_be_said_of_them(labeller):
    with pytest.raises(RuntimeError, match="run comes first"):
        labeller.load("not")
    labeller.run()
    found = labeller.load("not")
    assert (found["target"][1, :4] == 0.75).all() and (found["target"][1, 4:] == 0.25).all()
    assert (found["weight"] == 0.5).all()
    (row,) = labeller.rows()
    assert row == {
        "case": "not",
        "organ (ml)": pytest.approx(128 * 20 / 1000),
        "lowest confidence": 0.75,
        "not found": "-",
    }


def test_a_label_that_was_not_found_is_named(labeller):
    labeller.network.segment = lambda embeddings, planes: torch.stack([torch.ones(4, 8, 8), torch.zeros(4, 8, 8)])
    labeller.run()
    assert labeller.rows()[0]["not found"] == "organ" and labeller.rows()[0]["lowest confidence"] == "-"
