"""ADA-SAM as a network of volumes, and the light one that is deployed: what they hold, and what moves them."""

from __future__ import annotations

import pytest
import torch
from monai.engines import SupervisedEvaluator
from safetensors import safe_open

from common.grid.grid import read_grid
from common.serving.inferers import VolumeInferer
from support.ada_sam.volume import GRID, SIZE, AdaSam, image, module, volume
from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

tensors = import_bundle("ada_sam", "common.sam.adapters.trainable_tensors")  # whose adapters are those of the network
registry = import_bundle("ada_sam", "common.sam.adapters.registry")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_answers_are_log_probabilities_on_the_grid(axis):
    found = volume(axis=axis)(image(2))
    assert found.shape == (2, 3, *SIZE) and found.dtype == torch.float32 and not found.requires_grad
    torch.testing.assert_close(found.exp().sum(1), torch.ones(2, *SIZE), rtol=0, atol=1e-4)
    assert found[:, 1:].exp().max() > 0.1  # it says something
    one = volume(axis=axis)(image(2)[1:])
    torch.testing.assert_close(found[1:], one)  # volumes don't know each other


@pytest.mark.parametrize("feedback", [False, True])
def test_runs_inside_an_evaluator_and_masks_of_nan_change_nothing(feedback):
    network, answers = volume(feedback=feedback), []
    for label in (torch.zeros(1, 1, *SIZE), torch.full((1, 1, *SIZE), torch.nan)):
        data = [{"image": image(), "label": label}]
        evaluator = SupervisedEvaluator(torch.device("cpu"), data, network, inferer=VolumeInferer(amp=False))
        evaluator.run()
        answers.append(evaluator.state.output[0]["pred"])
    assert torch.equal(*answers)
    assert torch.equal(answers[0], VolumeInferer(amp=False)(image(), network)[0])


def test_an_autocast_around_it_changes_nothing():
    network = volume()
    wanted = network(image())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network(image()), wanted)


def test_merged_file_loads_strictly_without_adapters_and_gives_the_same():
    trained = volume(lora_rank=2, amp=False)
    state = registry.merged_state(trained)
    torch.manual_seed(1)
    plain = AdaSam(tiny_sam(32, attention=True, seed=1), SIZE[:2], 2, hidden=8, amp=False)
    served = module.AdaSamVolume(plain, 2, GRID).eval()
    before = served(image())
    served.load_state_dict(state, strict=True)
    torch.testing.assert_close(served.embed(image()[0]), trained.embed(image()[0]), rtol=1e-4, atol=1e-4)
    found, wanted = served(image()), trained(image())
    # a voxel on an edge may fall to the other side, and a part of a mask with it
    assert ((found - wanted).abs() > 1e-2).float().mean() < 1e-3 < ((before - wanted).abs() > 1e-2).float().mean()
    assert not any(word in name for name in state for word in (".up.", ".down."))


def test_grid_and_axis_travel_with_the_weights(tmp_path):
    torch.save(registry.merged_state(volume(axis=1)), tmp_path / "ada_sam.pt")
    assert module.read_slice_axis(str(tmp_path / "ada_sam.pt")) == 1
    assert module.read_slice_axis(str(tmp_path / "none.pt")) == 2 == module.read_slice_axis(None)
    assert read_grid(str(tmp_path / "ada_sam.pt"), {}) == GRID


def test_slice_size_is_the_other_two_axes_in_order():
    assert [module.slice_size((5, 6, 7), axis) for axis in range(3)] == [(6, 7), (5, 7), (5, 6)]


def test_small_file_holds_what_is_trained_alone_and_brings_it_back(tmp_path):
    trained, path = volume(), tmp_path / "ada_sam.safetensors"
    network = trained.network
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name in network.trainable_parameters():
                parameter.add_(0.05)
        network.cam_high.fill_(3.0)
    base = {"sam": "tiny_sam", "sha256": "0" * 64, "image_size": 32}
    tensors.save_trainable(path, network, network.adapted_tensors(), base)
    with safe_open(path, framework="pt") as file:
        assert set(file.keys()) == {*network.trainable_parameters(), "cam_low", "cam_high", "extents"}
    assert not any("image_encoder" in name for name in network.adapted_tensors())
    again = volume()
    assert not torch.equal(again(image()), trained(image()))
    assert tensors.load_trainable(path, again.network, base) == base
    assert torch.equal(again(image()), trained(image()))


def test_segmenter_is_exported_by_torchscript():
    body = torch.nn.Conv3d(1, 3, 1)
    network = module.Segmenter(body, (4, 4, 4), (1, 1, 1), (0, 1, 4)).eval()
    given = torch.rand(1, 1, 4, 4, 4)
    torch.testing.assert_close(torch.jit.script(network)(given), network(given))


def test_maps_that_are_logits_of_masks_need_no_range():
    served = volume(cam_range="sigmoid")
    network = served.network
    sight = network.look(served.embed(image()[0]))
    torch.testing.assert_close(sight.cam, network.planes(sight.maps).sigmoid())
    assert served.inference.cam_scope == "running" and volume().inference.cam_scope == "volume"
    network.observe(10 * sight.maps, torch.ones(SIZE[2], 2))
    torch.testing.assert_close(network.look(served.embed(image()[0])).cam, sight.cam)
    with pytest.raises(tensors.InputError, match="cam_range: found 'max'"):
        volume(cam_range="max")


@pytest.mark.parametrize(
    ("one_piece", "largest_component", "wanted"),
    [(None, None, [0, 1]), ([False, True, False], None, [0]), ([False, True, False], "null", [0]),
     ([False, True, False], True, [0, 1]), ([False, True, False], [4], [1])],
)  # fmt: skip
def test_which_classes_keep_their_largest_part_travels_with_the_weights(one_piece, largest_component, wanted):
    trained = volume(largest_component=largest_component)
    if one_piece is not None:
        trained.know_pieces(one_piece)
    assert trained.inference.component_classes == wanted
    served = volume()
    served.load_state_dict(registry.merged_state(trained), strict=True)
    assert served.inference.component_classes == ([0, 1] if one_piece is None else [0])
