from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from common.learning.distillation import FeatureDistillation
from support.bundle.path import import_bundle

RRLMedSAMNetwork = import_bundle("rrl_medsam", "network").RRLMedSAMNetwork
RegistrationNetwork = import_bundle("rrl_medsam", "learning.registration_network").RegistrationNetwork
objective = import_bundle("rrl_medsam", "learning.objective")
mutual_ema = import_bundle("rrl_medsam", "common.learning.ema").mutual_ema

FORM = {"channels": (4, 8), "strides": (2,)}
GENERAL = {"network.general_encoder", "network.general_decoder"}
MEDICAL = {"network.medical_encoder", "network.medical_decoder"}
PROMPT = {"network.dense_prompt"}


@pytest.fixture
def parts():
    torch.manual_seed(0)
    network = RRLMedSAMNetwork((16, 16, 16), (1, 1, 1), (0, 1, 2), **FORM)
    registration = RegistrationNetwork(network.medical_encoder, **FORM)
    nn.init.normal_(registration.decoder.head.weight, std=0.01)  # past the identity, where all of it learns
    return network, registration, FeatureDistillation(8, 16)


@pytest.fixture
def batch():
    torch.manual_seed(1)
    label = F.one_hot(torch.randint(0, 3, (2, 16, 16, 16)), 3).movedim(-1, 1).float()
    images = F.avg_pool3d(torch.rand(4, 1, 20, 20, 20), 5, stride=1)
    return {
        "image": images[:2],
        "moving": images[2:],
        "moving_label": label,
        "pseudo_label": label.flip(2),
        "teacher": torch.randn(2, 16, 4, 4, 4),
        "case": ["a", "b"],
    }


def changed_by_a_step(module, batch):
    """Names of what two steps of AdamW with weight decay change, two levels deep, and the losses of the first."""
    before = {name: value.clone() for name, value in module.state_dict().items()}
    optimizer = torch.optim.AdamW(module.parameters(), lr=1e-2, weight_decay=0.1)
    first = {}
    for _ in range(2):
        losses = module(batch)
        first = first or losses
        optimizer.zero_grad(set_to_none=True)
        losses["loss"].backward()
        optimizer.step()
    changed = {name for name, value in module.state_dict().items() if not torch.equal(value, before[name])}
    return {".".join(name.split(".")[:2]) for name in changed}, first


def test_distillation_moves_the_general_encoder_and_the_projection_only(parts, batch):
    network, _, distillation = parts
    changed, losses = changed_by_a_step(objective.DistillationObjective(network, distillation), batch)
    assert changed == {"network.general_encoder", "distillation.project"}
    assert set(losses) == {"loss"}


def test_joint_registration_moves_the_medical_model_and_the_registration_only(parts, batch):
    network, registration, _ = parts
    changed, losses = changed_by_a_step(objective.JointRegistrationObjective(network, registration), batch)
    # the medical encoder is the registration's too; "no mask" is what stands for the prompt
    assert changed == MEDICAL | PROMPT | {"registration.encoder", "registration.decoder"}
    assert set(losses) == {"loss", "similarity", "smooth", "segmentation"}
    wanted = losses["similarity"] + 0.5 * losses["smooth"] + losses["segmentation"]
    torch.testing.assert_close(losses["loss"], wanted)


def test_joint_registration_leaves_the_prompt_layers_alone(parts, batch):
    network, registration, _ = parts
    before = network.dense_prompt.layers[0].weight.clone()
    changed_by_a_step(objective.JointRegistrationObjective(network, registration), batch)
    assert torch.equal(network.dense_prompt.layers[0].weight, before)


def test_registration_alone_leaves_the_decoders_alone(parts, batch):
    network, registration, _ = parts
    joint = objective.JointRegistrationObjective(network, registration, segmentation_weight=0.0)
    changed, _ = changed_by_a_step(joint, batch)
    assert changed == {"network.medical_encoder", "registration.encoder", "registration.decoder"}


def test_the_segmentation_loss_does_not_steer_the_registration(parts, batch):
    network, registration, _ = parts
    joint = objective.JointRegistrationObjective(network, registration)
    joint(batch)["segmentation"].backward()
    assert all(p.grad is None for p in registration.decoder.parameters())


def test_the_pseudo_label_of_the_identity_is_the_atlas_label(parts, batch):
    network, registration, _ = parts
    nn.init.zeros_(registration.decoder.head.weight)
    losses, label = objective.JointRegistrationObjective(network, registration).register(batch)
    torch.testing.assert_close(label, batch["moving_label"], rtol=0, atol=1e-4)
    assert not label.requires_grad and losses["smooth"].item() == 0


def test_mutual_moves_both_models_and_nothing_else(parts, batch):
    network, _, _ = parts
    changed, losses = changed_by_a_step(objective.MutualObjective(network, prompt_dropout=0.0), batch)
    assert changed == GENERAL | MEDICAL | PROMPT
    assert set(losses) == {"loss", "general", "medical"}
    torch.testing.assert_close(losses["loss"], losses["general"] + losses["medical"])


@pytest.mark.parametrize(("switch", "wanted"), [("train_medical", GENERAL), ("train_general", MEDICAL | PROMPT)])
def test_mutual_with_one_model_leaves_the_other_alone(parts, batch, switch, wanted):
    network, _, _ = parts
    before = network.dense_prompt.layers[0].weight.clone()
    changed, _ = changed_by_a_step(objective.MutualObjective(network, **{switch: False}), batch)
    assert changed == wanted
    assert torch.equal(network.dense_prompt.layers[0].weight, before)


def test_without_the_general_model_there_is_no_prompt(parts, batch):
    network, _, _ = parts
    losses = objective.MutualObjective(network, prompt_dropout=0.0, train_general=False)(batch)
    alone = objective.SoftDiceCE()(network.forward_medical(batch["image"]), batch["pseudo_label"])
    torch.testing.assert_close(losses["medical"], alone)


def test_prompt_dropout_shows_the_medical_model_no_mask(parts, batch):
    network, _, _ = parts
    alone = objective.SoftDiceCE()(network.forward_medical(batch["image"]), batch["pseudo_label"])
    always = objective.MutualObjective(network, prompt_dropout=1.0)(batch)["medical"]
    never = objective.MutualObjective(network, prompt_dropout=0.0)(batch)["medical"]
    torch.testing.assert_close(always, alone)
    assert not torch.allclose(never, alone)


def test_the_medical_loss_does_not_reach_the_general_model(parts, batch):
    network, _, _ = parts
    objective.MutualObjective(network, prompt_dropout=0.0)(batch)["medical"].backward()
    for part in (network.general_encoder, network.general_decoder):
        assert all(p.grad is None for p in part.parameters())


def test_mutual_with_distillation_and_online_labels_is_the_papers_form(parts, batch):
    network, registration, distillation = parts
    joint = objective.JointRegistrationObjective(network, registration)
    mutual = objective.MutualObjective(
        network, prompt_dropout=0.0, joint=joint, distillation=distillation, distillation_weight=0.1
    )
    del batch["pseudo_label"]
    changed, losses = changed_by_a_step(mutual, batch)
    assert {"distillation.project", "joint.registration"} | GENERAL | MEDICAL | PROMPT <= changed
    wanted = losses["similarity"] + 0.5 * losses["smooth"] + losses["general"] + losses["medical"]
    torch.testing.assert_close(losses["loss"], wanted + 0.1 * losses["distillation"])


def test_every_stage_learns_and_the_average_keeps_the_loss_finite(parts, batch):
    network, registration, distillation = parts
    for stage in (
        objective.DistillationObjective(network, distillation),
        objective.JointRegistrationObjective(network, registration),
        objective.MutualObjective(network),
    ):
        optimizer = torch.optim.Adam(stage.parameters(), lr=0.01)
        values = []
        for _ in range(8):
            loss = stage(batch)["loss"]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            mutual_ema(network.general_encoder, network.medical_encoder)
            values.append(loss.item())
        assert values[-1] < values[0]


def test_losses_are_float32_under_bfloat16(parts, batch):
    network, registration, _ = parts
    with torch.autocast("cpu", torch.bfloat16):
        losses = objective.JointRegistrationObjective(network, registration)(batch)
    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def test_soft_dice_ce_of_a_perfect_and_a_wrong_prediction():
    target = F.one_hot(torch.tensor([[[[0, 1, 2, 1]]]]), 3).movedim(-1, 1).float()
    loss = objective.SoftDiceCE()
    assert float(loss(50 * target, target)) == pytest.approx(0, abs=1e-4)
    assert float(loss(50 * target.roll(1, dims=1), target)) > 10
