from __future__ import annotations

import pytest
import torch

from support.ada_sam.batch import make_batch, make_network
from support.bundle.path import import_bundle

module = import_bundle("ada_sam", "learning.sight_objective")
objective = import_bundle("ada_sam", "learning.objective")


def test_the_frozen_encoder_stays_out_of_the_state():
    it = module.SightObjective(make_network(lora_rank=2))
    state = it.state_dict()
    wanted = {f"network.{name}" for name in it.network.adapted_tensors()}
    encoder = {name for name in state if name.startswith("network.sam.image_encoder")}
    assert wanted <= set(state) and encoder == {name for name in wanted if "image_encoder" in name}
    assert not any(name.startswith("network.sam.") for name in set(state) - wanted)


def test_the_state_comes_back_beside_other_base_weights_untouched():
    it, other = (module.SightObjective(make_network(seed)) for seed in (0, 1))
    frozen = other.network.sam.image_encoder.body[0].weight.clone()
    other.load_state_dict(it.state_dict())
    torch.testing.assert_close(other.network.head.last.weight, it.network.head.last.weight)
    assert torch.equal(other.network.sam.image_encoder.body[0].weight, frozen)
    with pytest.raises(RuntimeError, match="Missing"):
        other.load_state_dict({name: value for name, value in it.state_dict().items() if "head" not in name})
    with pytest.raises(RuntimeError, match="Unexpected"):
        other.load_state_dict(it.state_dict() | {"network.sam.image_encoder.more": torch.zeros(1)})


def test_positive_share_may_be_the_cohorts_mapping():
    network = make_network()
    assert module.SightObjective(network, {1: 0.25, 7: 0.5}).positive_share.tolist() == [0.25, 0.5]
    with pytest.raises(ValueError, match="3 numbers; wanted one for each of 2"):
        module.SightObjective(network, [0.1, 0.2, 0.3])


def test_embeddings_are_taken_or_made():
    it = module.SightObjective(make_network())
    batch = make_batch(it.network)
    made = it.embed({"image": batch["image"]})
    torch.testing.assert_close(made, batch["embedding"])
    assert torch.equal(it.embed(batch | {"image": None}), batch["embedding"])
    assert it.embed({"embedding": batch["embedding"].half()}).dtype == torch.float32


def test_groups_hold_each_trained_parameter_once_and_vectors_do_not_decay():
    network = make_network(feedback=True, lora_rank=2)
    it = objective.AdaptObjective(network, total_steps=9)
    groups = it.param_groups(0.01, weight_decay=0.1)
    found = [id(parameter) for group in groups for parameter in group["params"]]
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert sorted(names[one] for one in found) == sorted(network.trainable_parameters())
    for group in groups:
        own = [names[id(parameter)] for parameter in group["params"]]
        assert group["lr"] == pytest.approx(0.01 if own[0].startswith("sam.") else 0.05)
        assert len({name.startswith("sam.") for name in own}) == 1
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] > 0}
    assert {group["lr"] for group in it.param_groups(0.01, head_lr=0.3)} == {0.01, 0.3}
    head = module.ClassifyObjective(network).param_groups(0.01)
    assert {names[id(p)].split(".")[0] for group in head for p in group["params"]} == {"head"}


def test_locating_teaches_the_maps_by_the_masks_alone():
    network = make_network()
    batch = make_batch(network)
    plain = module.ClassifyObjective(network)(batch)
    assert set(plain) == {"loss", "classify"}
    found = module.ClassifyObjective(network, locate_weight=2.0)(batch)
    assert found["loss"] == found["classify"] + 2 * found["locate"] and found["classify"] == plain["classify"]
    unseen = {**batch, "annotated": torch.zeros_like(batch["annotated"])}
    assert module.ClassifyObjective(network, locate_weight=2.0)(unseen)["locate"] == 0
    adapt = objective.AdaptObjective(network, total_steps=9, locate_weight=2.0)(batch)
    assert adapt["locate"] > 0
    with pytest.raises(module.InputError, match="locate_weight is -1"):
        module.ClassifyObjective(network, locate_weight=-1)
