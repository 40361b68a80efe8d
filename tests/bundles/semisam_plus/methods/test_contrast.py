from __future__ import annotations

import copy

import pytest
import torch
from monai.networks.nets import SegResNet

from support.bundle.path import import_bundle
from support.semisam_plus.batch import CLASSES, gradients, make_batch, make_network

module = import_bundle("semisam_plus", "methods.contrast")
registry = import_bundle("semisam_plus", "methods.registry")
InputError = import_bundle("semisam_plus", "common.errors").InputError


def build(method: str = "mean_teacher", contrast: str | None = "stratified", **options):
    torch.manual_seed(0)
    network = make_network(registry.body_channels(method, CLASSES))
    return registry.build_objective(method, network, total_steps=10, contrast=contrast, **options).train()


@pytest.mark.parametrize("method", registry.METHODS)
@pytest.mark.parametrize("contrast", ["uniform", "stratified", "antithetic"])
def test_every_method_takes_it_and_it_teaches_network_and_projection(method, contrast):
    objective, batch = build(method, contrast), make_batch(answers=False)
    first = objective(batch)
    assert first["contrast"] == 0  # nobody is remembered yet
    loss, found = gradients(objective, batch, "contrast")
    assert loss > 0
    learnt = {name for name, gradient in found.items() if gradient.abs().sum() > 0}
    assert {name for name in learnt if name.startswith("contrast.head.")} and {
        name for name in learnt if name.startswith("network.body.model.0")
    }
    # the last step makes the masks, and has no part in the features before it
    assert not any(name.startswith("network.body.model.2") for name in learnt)


def test_its_parameters_are_optimised_and_its_memory_is_of_the_state():
    objective = build()
    grouped = {id(p) for group in objective.param_groups(0.1) for p in group["params"]}
    assert {id(p) for p in objective.contrast.parameters()} <= grouped
    objective(make_batch(answers=False))
    other = build()
    other.load_state_dict(copy.deepcopy(objective.state_dict()))
    assert other.contrast.memory.equal(objective.contrast.memory) and bool(objective.contrast.remembered.any())


def test_nothing_of_it_stays_in_the_network_or_its_teacher():
    objective = build()
    objective(make_batch(answers=False))
    for network in (objective.network, objective.teacher):
        assert not any(part._forward_pre_hooks for part in network.modules())
    assert not any("contrast" in name for name in objective.network.state_dict())


def test_without_it_and_in_evaluation_nothing_is_watched():
    batch = make_batch(answers=False)
    assert build(contrast=None).contrast is None and "contrast" not in build(contrast=None)(batch)
    assert build(contrast_weight=0).contrast is None
    # in run.json, so that a run isn't gone on with by another one
    assert [build(contrast=word).settings["contrast"] for word in (None, "uniform")] == [None, "uniform"]
    assert "contrast" not in build().eval()(batch)


def test_the_loss_is_small_where_classes_lie_apart_and_large_where_they_lie_together():
    contrast = module.VoxelContrast(make_network(), "stratified")
    contrast.remembered.fill_(4)
    directions = torch.eye(module.WIDTH)[:CLASSES]
    contrast.means.copy_(directions)
    contrast.memory[:, :4] = directions[:, None]
    apart = contrast._apart(0, [directions[[k]].expand(8, -1) for k in range(CLASSES)])
    together = contrast._apart(0, [directions[[1]].expand(8, -1) for _ in range(CLASSES)])
    assert apart < together - 1


def test_what_was_not_scanned_is_no_anchor():
    contrast = module.VoxelContrast(make_network(), "uniform")
    network, batch = make_network(), make_batch(answers=False)
    inside = torch.zeros_like(batch["image"], dtype=torch.bool)
    with contrast.watching(network):
        network.forward_levels(batch["image"])
    assert contrast(batch["label"], inside) == 0 and not bool(contrast.remembered.any())


def test_another_word_and_another_body_are_refused():
    with pytest.raises(InputError, match="contrast is 'sobol'; wanted one of uniform, stratified, antithetic, or null"):
        module.VoxelContrast(make_network(), "sobol")
    body = SegResNet(3, 8, 1, CLASSES, blocks_down=(1, 1), blocks_up=(1,))
    with pytest.raises(InputError, match="the network's body is SegResNet; wanted MONAI's UNet"):
        module.VoxelContrast(make_network(body=body), "uniform")
