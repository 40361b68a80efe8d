from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from monai.transforms.traits import RandomizableTrait
from torch import nn
from torch.nn import functional as F

from common.pseudo_labels.objective import AddPseudoLabeld
from common.pseudo_labels.objective import SegmentObjective as Objective


class Given(nn.Module):
    """A network that answers with its parameters."""

    def __init__(self, logits: torch.Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return self.logits


def batch_of(classes: int = 3) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 4, 5, 6, generator=generator)
    target = torch.softmax(3 * torch.randn(2, classes, 4, 5, 6, generator=generator), dim=1)
    weight = (torch.rand(2, 1, 4, 5, 6, generator=generator) > 0.4).float()
    return logits, {"image": torch.zeros(2, 1, 4, 5, 6), "target": target, "weight": weight}


def test_voxels_of_weight_0_teach_nothing():
    logits, batch = batch_of()
    network = Given(logits)
    first = Objective(network)(batch)
    first["loss"].backward()
    outside = (batch["weight"] == 0).expand_as(logits)
    assert network.logits.grad[outside].abs().max() == 0 and network.logits.grad[~outside].abs().max() > 0
    other = {**batch, "target": torch.where(outside, torch.rand_like(batch["target"]), batch["target"])}
    assert torch.equal(Objective(network)(other)["loss"], first["loss"])


def test_cross_entropy_is_that_of_the_counted_voxels():
    logits, batch = batch_of()
    found = Objective(Given(logits))(batch)
    mask = batch["weight"][:, 0].bool()
    wanted = F.cross_entropy(logits.movedim(1, -1)[mask], batch["target"].movedim(1, -1)[mask])
    torch.testing.assert_close(found["cross_entropy"], wanted)
    assert found["loss"] == found["cross_entropy"] + found["dice"]


def test_dice_by_hand():
    prob, target = torch.tensor([0.25, 0.75, 1.0]), torch.tensor([0.0, 1.0, 1.0])
    logits = torch.stack([1 - prob, prob]).clamp_min(1e-9).log().view(1, 2, 3, 1, 1)
    batch = {"image": None, "target": torch.stack([1 - target, target]).view(1, 2, 3, 1, 1)}
    batch["weight"] = torch.tensor([0.0, 1.0, 1.0]).view(1, 1, 3, 1, 1)
    found = Objective(Given(logits))(batch)["dice"].detach()
    # soft Dice over the last two voxels: the soft intersection 1.75 counts (|p| + |t| - |p - t|) / 2
    assert float(found) == pytest.approx(1 - 2 * 1.75 / 3.75, abs=1e-4)


def test_released_form_weighs_the_background_ten_times_and_divides_by_voxels():
    logits, batch = batch_of(2)
    batch["weight"] = torch.ones_like(batch["weight"])
    found = Objective(Given(logits), dice_weight=0, class_weights=[10, 1])(batch)
    wanted = F.cross_entropy(logits, batch["target"], weight=torch.tensor([10.0, 1.0]))
    torch.testing.assert_close(found["loss"], wanted)
    assert set(found) == {"loss", "cross_entropy"}
    three, batch = batch_of(3)  # a further label weighs as the last one
    same = Objective(Given(three), dice_weight=0, class_weights=[10, 1])(batch)["loss"]
    assert torch.equal(same, Objective(Given(three), dice_weight=0, class_weights=[10, 1, 1])(batch)["loss"])


def test_nothing_to_learn_from_is_no_nan():
    logits, batch = batch_of()
    batch["weight"] = torch.zeros_like(batch["weight"])
    network = Given(logits)
    loss = Objective(network)(batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss) and network.logits.grad.abs().max() == 0


def test_a_step_gets_the_pseudo_label_of_its_case_anew_each_time():
    known = {"case_1": {"target": torch.ones(3, 2, 2, 2), "weight": torch.zeros(1, 2, 2, 2), "more": 1}}
    transform = AddPseudoLabeld(SimpleNamespace(load=lambda case: dict(known[case])))
    item = transform({"case": "case_1", "image": 0})
    assert item == {"case": "case_1", "image": 0, **{key: known["case_1"][key] for key in ("target", "weight")}}
    known["case_1"]["target"] = torch.zeros(3, 2, 2, 2)
    assert transform(item)["target"].max() == 0
    assert isinstance(transform, RandomizableTrait)  # else MONAI's caches would keep it


def test_what_a_target_does_not_tell_about_is_not_learnt_as_background():
    logits, batch = batch_of()
    known = torch.tensor([[True, True, False]]).expand(len(logits), -1)
    batch["target"][:, 0] += batch["target"][:, 2]
    batch["target"][:, 2] = 0
    moved = logits.softmax(1)
    moved[:, 0], moved[:, 2] = moved[:, 2].clone(), moved[:, 0].clone()
    one, other = (Objective(Given(found))(batch | {"known": known})["loss"] for found in (logits, moved.log()))
    torch.testing.assert_close(one, other)
    whole = batch | {"known": torch.ones_like(known)}
    network = Given(logits)
    assert Objective(network)(whole)["loss"].equal(Objective(network)(batch)["loss"])
