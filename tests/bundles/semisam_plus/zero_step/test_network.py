"""What segments without training: votes of the nearest slices, a SAM that is asked by them, and its state."""

from __future__ import annotations

import copy

import pytest
import torch

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam, use_tiny_sam
from support.semisam_plus.fake import FakePromptedSam

network = import_bundle("semisam_plus", "zero_step.network")
Specialist = import_bundle("semisam_plus", "network").Specialist
tensor_files = import_bundle("semisam_plus", "common.files.tensor_files")
InputError = import_bundle("semisam_plus", "common.errors").InputError
SIZE = (32, 24, 16)
GRID = {"spatial_size": SIZE, "pixdim": (1, 1, 1), "label_values": (0, 3)}


def scan(moved: int = 0, size=SIZE) -> tuple[torch.Tensor, torch.Tensor]:
    """A bright block, moved along the rows, on noise: image [1, H, W, D] and probabilities [2, H, W, D]."""
    label = torch.zeros(2, *size)
    middle, places = (n // 2 for n in size[:2]), slice(4, 12)
    row, column = middle
    label[1, row - 6 + moved : row + 6 + moved, column - 5 : column + 5, places] = 1
    label[0] = 1 - label[1]
    noise = torch.rand(label[1:].shape, generator=torch.Generator().manual_seed(moved + 7))
    return 0.2 * noise + 0.7 * label[1:], label


def zero_step(sam=None, **options) -> network.ZeroStep:
    made = network.ZeroStep(sam or FakePromptedSam(), 2, **{"prompt": "box", **options})
    made.know([scan()])
    return made


def dice(found: torch.Tensor, label: torch.Tensor) -> float:
    first, second = found.argmax(0) > 0, label.argmax(0) > 0
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_a_labelled_scan_gets_its_own_label_and_the_copied_one_is_exact():
    made, (image, label) = zero_step(), scan()
    found = made(image[None])
    assert found.shape == (1, 2, *SIZE) and dice(found[0], label) > 0.9
    assert torch.allclose(found.exp().sum(1), torch.ones(1, *SIZE), atol=1e-4)
    assert made.copied(image)[:, ..., 4:12].equal(label[..., 4:12])


def test_the_answer_of_sam_has_its_share():
    image, label = scan()
    # the fake one fills boxes: of a block with a notch it fills the notch
    label[1, 10:14, 7:12] = 0
    label[0] = 1 - label[1]
    votes, both = (network.ZeroStep(FakePromptedSam(), 2, prompt="box", sam_share=share) for share in (0.0, 1.0))
    for made in (votes, both):
        made.know([(image, label)])
    notch = (slice(11, 13), slice(8, 11), slice(6, 10))
    assert votes(image[None]).exp()[0, 1][notch].max() < 0.5 < both(image[None]).exp()[0, 1][notch].min()


def test_masks_are_handed_on_from_the_middle_outwards(monkeypatch):
    made, asked = zero_step(), []
    answer = made.generalist.answer
    monkeypatch.setattr(
        made.generalist, "answer", lambda embedding, maps: (asked.append(maps.clone()), answer(embedding, maps))[1]
    )
    soft = torch.zeros(7, 2, 32, 24)
    soft[1:6, 1, 8:20, 6:16] = 1
    soft[2, 1] *= 0.6
    done = made._walk(torch.zeros(7, 256, 4, 4), soft, torch.full((7,), 3))
    assert [maps.shape[-1] for maps in asked] == [1, 2, 2]  # slice 3, then 2 and 4, then 1 and 5
    assert asked[0][1, ..., 0].equal(soft[3, 1])
    # of slice 2 the prompt is three votes and the neighbour's mask
    assert asked[1][1, 10, 10, 0] == pytest.approx((3 * 0.6 + float(done[3, 0, 10, 10])) / 4, abs=1e-3)


def test_two_structures_are_walked_at_once_each_from_its_own_middle():
    made = network.ZeroStep(FakePromptedSam(), 3, prompt="box")
    soft = torch.zeros(9, 3, 8, 8)
    soft[0:3, 1], soft[4:9, 2] = 1, 1
    steps = list(made._steps(soft))
    assert steps[0] == [(0, 1, 1), (1, 6, 6)]
    assert steps[1] == [(0, 1, 0), (0, 1, 2), (1, 6, 5), (1, 6, 7)] and steps[2] == [(1, 5, 4), (1, 7, 8)]


def test_a_larger_scan_is_answered_on_its_own_size_and_a_smaller_one_too():
    made = zero_step()
    for size in ((40, 30, 20), (28, 20, 16)):
        image, label = scan(size=size)
        found = made(image[None])[0]
        assert found.shape == label.shape and bool(found.isfinite().all()) and dice(found, label) > 0.6


def test_slices_are_those_of_the_thick_axis():
    assert network.find_slice_axis([1, 1, 1.2]) == network.find_slice_axis([1, 1, 1]) == 2
    assert network.find_slice_axis([4, 1, 1]) == 0 and network.find_slice_axis([1, 3, 1]) == 1
    made = network.ZeroStep(FakePromptedSam(), 2, prompt="box", slice_axis=0)
    image, label = (maps.movedim(3, 1) for maps in scan())
    made.know([(image, label)])
    assert dice(made(image[None])[0], label) > 0.9


def test_its_state_makes_it_anew_with_nothing_else(monkeypatch, tmp_path):
    use_tiny_sam(monkeypatch, tmp_path, bundle="semisam_plus")
    monkeypatch.setattr(network, "build_sam", import_bundle("semisam_plus", "common.sam.build").build_sam)
    body = zero_step(tiny_sam(64), prompt="box, box+mask", window=0.1, sam_share=0.3)
    made = Specialist(body, **GRID)
    served = Specialist(torch.nn.Conv3d(1, 2, 1), **GRID, serves=True)
    state = made.state_dict()
    assert all(isinstance(value, torch.Tensor) for value in state.values()) and served.window == list(SIZE)
    tensor_files.load_strictly(served, state, "model.pt")
    image = scan(2)[0][None]
    assert served.body.settings == body.settings and served.window == []
    assert served(image).equal(made(image))
    # as MONAI Label loads it, into a copy
    copied = copy.deepcopy(Specialist(torch.nn.Conv3d(1, 2, 1), **GRID, serves=True))
    copied.load_state_dict(state, strict=False)
    assert copied(image).equal(made(image))


def test_training_passes_over_what_was_not_trained():
    fresh = Specialist(torch.nn.Conv3d(1, 2, 1), **{**GRID, "pixdim": (2, 2, 2)})
    before = {name: value.clone() for name, value in fresh.state_dict().items()}
    fresh.load_state_dict(Specialist(zero_step(), **GRID).state_dict(), strict=False)
    assert all(value.equal(before[name]) for name, value in fresh.state_dict().items())


def test_a_server_that_has_read_another_grid_says_so():
    other = Specialist(torch.nn.Conv3d(1, 2, 1), **{**GRID, "pixdim": (2, 2, 2)}, serves=True)
    with pytest.raises(InputError, match=r"found pixdim .* start the server anew"):
        other.load_state_dict(Specialist(torch.nn.Conv3d(1, 2, 1), **GRID).state_dict(), strict=False)
    two = {name: torch.tensor(value).float() for name, value in GRID.items()} | {"coarse.body.weight": torch.ones(1)}
    with pytest.raises(InputError, match="no network of one level"):
        Specialist(torch.nn.Conv3d(1, 2, 1), **GRID, serves=True).load_state_dict(two, strict=False)
