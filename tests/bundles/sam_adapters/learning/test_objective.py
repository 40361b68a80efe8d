from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

AdaptedSam = import_bundle("sam_adapters", "slice_model.adapted_sam").AdaptedSam
SliceObjective = import_bundle("sam_adapters", "learning.objective").SliceObjective
SIZE = (24, 32)


def objective(total_steps: int = 100, **parts):
    torch.manual_seed(0)
    return SliceObjective(AdaptedSam(tiny_sam(attention="encoder_adapter" in parts), 3, **parts), total_steps, 0.5)


def batch(count: int = 2) -> dict[str, torch.Tensor]:
    mask = torch.zeros((count, *SIZE), dtype=torch.long)
    mask[:, 4:12, 4:12], mask[:, 14:20, 16:28] = 1, 2
    return {"embedding": torch.randn(count, 1, 32, 8, 8), "planes": torch.rand(count, 1, *SIZE), "mask": mask}


def logits_of(mask: torch.Tensor, height: float = 20.0) -> torch.Tensor:
    """Return logits on the tiny SAM's square that say what a mask says."""
    square = torch.zeros((len(mask), 64, 64), dtype=torch.long)
    square[:, :48] = mask.clamp_min(0).repeat_interleave(2, 1).repeat_interleave(2, 2)
    return height * torch.nn.functional.one_hot(square, 3).movedim(-1, 1).float()


def test_the_loss_of_what_is_right_is_nothing_and_what_is_not_known_does_not_count():
    own, mask = objective(decoder="tokens"), batch()["mask"]
    assert own.compare(logits_of(mask), mask) < 0.06  # along the rims of structures logits are interpolated
    wrong = mask.clone()
    wrong[:, 4:8, 4:12] = 2
    assert own.compare(logits_of(wrong), mask) > 0.3
    assert own.compare(logits_of(wrong), mask.masked_fill(wrong != mask, -1)) < 0.06


def test_two_stages_share_the_loss_and_the_second_ones_share_grows():
    own = objective(decoder="hierarchical")
    losses = own(batch())
    share = 0.6
    torch.testing.assert_close(losses["loss"], share * losses["mask"] + (1 - share) * losses["first"])
    assert int(own.step) == 1
    shares = []
    for step in (0, 50, 100):
        own.step.fill_(step)
        shares.append(own.second_share())
    assert shares[0] == pytest.approx(0.6) and shares[0] < shares[1] < shares[2] and shares[2] > 0.97
    own.eval()
    own(batch())
    assert int(own.step) == 100


def test_an_auxiliary_head_and_a_patch_map_have_losses_of_their_own():
    losses = objective(decoder="sam", prompts="self")(batch())
    torch.testing.assert_close(losses["loss"], losses["mask"] + losses["first"])
    losses = objective(decoder="sam", prompts="patch_map")(batch())
    torch.testing.assert_close(losses["loss"], losses["mask"] + losses["patches"])


def test_a_patch_holds_a_structure_where_any_of_its_pixels_does():
    own, mask = objective(decoder="sam", prompts="patch_map"), torch.zeros((1, *SIZE), dtype=torch.long)
    mask[0, 5, 9] = 2  # pixels 10, 11 of rows and 18, 19 of columns: the patch of 16 pixels at row 0, column 1
    right = torch.full((1, 2, 4, 4), -20.0)
    right[0, 1, 0, 1] = 20.0
    assert own.compare_patches(right, mask) < 1e-6
    assert own.compare_patches(right.flip(1), mask) > 1


def test_an_encoder_that_learns_encodes_the_slab():
    own = objective(decoder="tokens", depth="slab", encoder_adapter="bottleneck", adapter_rank=2)
    given = batch()
    given["slab"] = given["planes"][:, None].expand(-1, 5, -1, -1, -1)
    del given["embedding"]
    own(given)["loss"].backward()
    adapters = [name for name in own.network.trained() if "bottleneck" in name and name.endswith("up.weight")]
    assert adapters and all(own.network.get_parameter(name).grad.abs().sum() > 0 for name in adapters)


def test_a_structure_that_a_mask_does_not_tell_about_is_no_background():
    own, mask = objective(decoder="sam", prompts="patch_map"), batch()["mask"]
    known = torch.tensor([[True, True, False], [True, True, True]])
    without = mask.clone()
    without[0][mask[0] == 2] = 0
    assert own.compare(logits_of(mask), without) > 0.3
    assert own.compare(logits_of(mask), without, known=known) < 0.06
    assert own.compare(logits_of(mask), without, known=known.flip(0)) > 0.3
    patches = torch.randn(2, 2, 4, 4)
    other = patches.clone()
    other[0, 1] += 5
    same = [own.compare_patches(found, mask, known) for found in (patches, other)]
    assert same[0] == same[1] and own.compare_patches(other, mask) != own.compare_patches(patches, mask)
