from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor

from support.ada_sam.volume import SIZE as SMALL
from support.ada_sam.volume import image
from support.ada_sam.volume import volume as tiny_volume
from support.bundle.path import import_bundle
from support.weakmedsam.fake import LABELS, SIZE, SPACING, grid_image, one_hot, structures

module = import_bundle("ada_sam", "evaluation")
VALUES = list(LABELS)


def answering(probabilities: torch.Tensor, told: list | None = None, axis: int = 2):
    """Stand for a VolumeInference that always gives one answer, and notes what it was given."""

    class Inference:
        slice_axis = axis

        def __call__(self, embeddings, size, bits):
            if told is not None:
                told.append((embeddings, size, bits))
            return SimpleNamespace(probabilities=probabilities)

    return Inference()


def volume(itself=None, window=None) -> SimpleNamespace:
    """Stand for an AdaSamVolume: the embedding of a volume is its mean."""
    inference = itself or answering(one_hot())
    return SimpleNamespace(
        embed=lambda image: image.mean(), grey=lambda image: image, inference=inference, context=1, window=window
    )


def item(label: torch.Tensor | None = None) -> dict:
    affine = torch.diag(torch.tensor([*SPACING, 1.0], dtype=torch.float64))
    values = torch.tensor(VALUES)[structures()][None].int() if label is None else label
    image = grid_image()
    image.meta["filename_or_obj"] = "scan.nii.gz"
    return {"image": image, "label": MetaTensor(values, affine=affine), "pred": one_hot()}


def seen(data: dict) -> dict:
    """Stand for what brings a scan to the grid of SAM's slices."""
    assert data == {"image": "scan.nii.gz"}
    return {"image": grid_image()}


@pytest.fixture
def half(monkeypatch) -> torch.Tensor:
    """What the network answers slice by slice: the truth, without the first rows."""
    found = one_hot()
    found[:, :, :4] = torch.tensor([1.0, 0, 0]).view(3, 1, 1, 1)
    monkeypatch.setattr(module, "slice_by_slice", lambda inference: answering(found))
    return found


def columns_of(transform) -> dict:
    return transform.columns(transform(item()))


def test_each_way_through_the_volume_is_scored_on_the_native_grid(half):
    columns = columns_of(module.AddAdaSamd(VALUES, volume(), seen))
    assert list(columns) == ["itself dice", "slices dice"]
    assert columns["itself dice"] == {1: 1.0, 4: 1.0}
    for value, one, other in zip((1, 4), one_hot()[1:], half[1:], strict=True):
        wanted = 2 * float((one * other).sum()) / float((one + other).sum())
        assert columns["slices dice"][value] == pytest.approx(wanted)


def test_ada_sam_itself_is_no_column_where_it_is_what_is_deployed(half):
    given = volume()
    assert list(columns_of(module.AddAdaSamd(VALUES, given, seen, network=given))) == ["slices dice"]


def test_a_plain_unet_stands_beside_them(monkeypatch, half):
    asked = []
    monkeypatch.setattr(module, "segment_slices", lambda *given: asked.append(given) or one_hot())
    given = volume(answering(one_hot(), axis=1))
    columns = columns_of(module.AddAdaSamd(VALUES, given, seen, unet="unet"))
    assert list(columns) == ["itself dice", "slices dice", "unet dice"] and columns["unet dice"] == {1: 1.0, 4: 1.0}
    network, planes, axis = asked[0]
    assert (network, axis) == ("unet", 1) and planes.shape == (SIZE[1], 3, SIZE[0], SIZE[2])
    assert torch.equal(planes[4, 0], grid_image()[0, :, 3])


def test_nothing_of_the_truth_reaches_the_answer(half):
    told = []
    transform = module.AddAdaSamd(VALUES, volume(answering(one_hot() * 0.9, told)), seen)
    found = [transform(item()), transform(item(torch.zeros(1, *SIZE)))]
    assert torch.equal(found[0]["itself"], found[1]["itself"]) and len(told) == 2
    assert found[1]["compared"]["itself dice"] == {1: 0.0, 4: 0.0}
    for embedding, size, bits in told:
        assert embedding == grid_image().mean() and size == SIZE and bits is None


def test_other_answers_are_scored_on_their_own_grid_and_the_prediction_keeps_its_image(half):
    given = item() | {"image": MetaTensor(torch.rand(1, 3, 3, 3), meta={"filename_or_obj": "scan.nii.gz"})}
    found = module.AddAdaSamd(VALUES, volume(), seen)(given)
    assert found["compared"]["itself dice"] == {1: 1.0, 4: 1.0} and found["image"] is given["image"]


def test_a_scan_that_is_on_the_grid_of_the_slices_is_not_read_again(half):
    def read(data):
        raise AssertionError(data)

    found = module.AddAdaSamd(VALUES, volume(window=list(SIZE)), read)(item())
    assert found["compared"]["itself dice"] == {1: 1.0, 4: 1.0}


def test_without_a_sam_nothing_is_added():
    given = item()
    found = module.AddAdaSamd(VALUES, None, None, unet="unet")(given)
    assert set(found) == {*given, "compared"} and found["compared"] == {}


def test_slice_by_slice_no_slice_depends_on_another():
    served = tiny_volume()
    embeddings = served.embed(image()[0])
    changed = torch.cat([embeddings[:3], embeddings[:3].flip(0)])  # the first half stays
    for inference, same in ((module.slice_by_slice(served.inference), True), (served.inference, False)):
        one, other = (inference(given, SMALL, None).probabilities for given in (embeddings, changed))
        assert torch.equal(one[..., :3], other[..., :3]) == same
        assert not torch.equal(one[..., 3:], other[..., 3:])
