from __future__ import annotations

import pytest
import torch

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

AdaptedSam = import_bundle("sam_adapters", "slice_model.adapted_sam").AdaptedSam
module = import_bundle("sam_adapters", "learning.cross_prompting")
InputError = import_bundle("sam_adapters", "common.errors").InputError
SIZE = (24, 32)


def objective(decoder: str = "tokens", parts: dict | None = None, **cross):
    torch.manual_seed(0)
    network = AdaptedSam(tiny_sam(), 3, decoder=decoder, decoders=2, **(parts or {}))
    return module.CrossObjective(network, 100, 0.8, module.CrossPrompting(**{"wanted": True, "start": 0, **cross}))


def batch(labeled: int = 2, unlabeled: int = 2, reach: int = 0) -> dict[str, torch.Tensor]:
    generator, count = torch.Generator().manual_seed(1), labeled + unlabeled
    mask = torch.zeros((count, *SIZE), dtype=torch.long)
    mask[:labeled, 4:12, 4:12], mask[:labeled, 14:20, 16:28] = 1, 2
    mask[labeled:, :3] = -1  # beyond the scan
    return {
        "embedding": torch.randn(count, 2 * reach + 1, 32, 8, 8, generator=generator),
        "planes": torch.rand(count, 1, *SIZE, generator=generator),
        "mask": mask,
        "labeled": torch.arange(count) < labeled,
    }


def loss_of(own, given) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return own(given)


def test_both_directions_are_one_loss():
    losses = loss_of(objective(weight=0.4, consistency=0.05), batch())
    assert all(value > 0 for value in losses.values())
    expected = losses["mask"] + losses["prompted"] + 0.4 * losses["cross"] + 0.05 * losses["consistency"]
    torch.testing.assert_close(losses["loss"], expected)


def test_without_unlabelled_slices_and_before_the_warm_up_two_decoders_learn_alone():
    alone = loss_of(objective(wanted=False), batch(2, 0))
    torch.testing.assert_close(alone["loss"], alone["mask"] + alone["prompted"])
    torch.testing.assert_close(loss_of(objective(), batch(2, 0)), alone)
    late = objective(start=0.1)
    for step in (0, 9):
        late.step.fill_(step)
        torch.testing.assert_close(loss_of(late, batch()), alone)
    assert int(late.step) == 10
    begun = loss_of(late, batch())
    assert begun["cross"] > 0 and begun["loss"] > begun["mask"] + begun["prompted"]


def test_what_stands_in_the_mask_of_an_unlabelled_slice_is_not_looked_at_but_where_the_scan_is():
    given, other = batch(), batch()
    other["mask"][2:, 3:] = 1
    torch.testing.assert_close(loss_of(objective(), given), loss_of(objective(), other))
    other["mask"][2:, :10] = -1
    assert loss_of(objective(), other)["cross"] != loss_of(objective(), given)["cross"]


def grads(own, of: str) -> tuple[bool, ...]:
    """Return which decoder has a gradient of a loss."""
    own.zero_grad(set_to_none=True)
    loss_of(own, batch())[of].backward()
    return tuple(any(p.grad is not None and p.grad.abs().sum() > 0 for p in one.parameters())
                 for one in own.network.decoder.decoders)  # fmt: skip


def test_every_loss_reaches_both_decoders():
    own = objective()
    assert {of: grads(own, of) for of in ("mask", "prompted", "cross", "consistency")} == dict.fromkeys(
        ("mask", "prompted", "cross", "consistency"), (True, True)
    )


def test_no_gradient_goes_through_prompts_and_pseudo_labels(monkeypatch):
    """With one decoder's own answer to nobody's prompts kept from gradients, nothing of it is left to learn from."""
    own = objective()
    ask = own.network.ask

    def kept(which, features, detail=None, places=None):
        found = ask(which, features, detail, places)
        return found.detach() if which == 0 else found  # decoder 0 prompts and makes pseudo labels, no more

    monkeypatch.setattr(own.network, "ask", kept)
    assert [grads(own, of) for of in ("cross", "consistency")] == [(False, True), (False, True)]
    monkeypatch.setattr(own.network, "ask", lambda *args: ask(*args).detach())
    with pytest.raises(RuntimeError, match="does not require grad"):
        grads(own, "cross")


def test_a_pseudo_label_is_the_argmax_of_the_mean_of_two_answers():
    own = objective()
    one, other = torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 64, 64)
    one[:, 1] = 1.0
    other[:, 2, :, 32:] = 4.0
    known = torch.zeros((1, *SIZE), dtype=torch.long)
    known[:, 20:] = -1
    agreed = own.agreed(one, other, known)
    assert (agreed[:, :20, :15] == 1).all() and (agreed[:, :20, 17:] == 2).all() and (agreed[:, 20:] == -1).all()


@pytest.mark.parametrize(
    ("decoder", "parts"), [("tokens", {}), ("full", {"depth": "slab"}), ("tokens", {"side_branch": True})]
)
def test_every_part_learns_and_the_sam_stays_as_it_is(decoder, parts, monkeypatch):
    own = objective(decoder, parts)
    monkeypatch.setattr(own, "found", lambda logits, mask: mask.clamp_min(0))  # so that there is something to ask about
    network, given = own.network, batch(reach=2 if "depth" in parts else 0)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.Adam([network.get_parameter(key) for key in network.trained()], lr=0.01)
    for _ in range(4):
        optimizer.zero_grad()
        own(given)["loss"].backward()
        optimizer.step()
    after = network.state_dict()
    moved = {key for key in before if not after[key].equal(before[key])}
    assert {key for key in network.trained() if not key.endswith("bias")} <= moved
    assert moved <= set(network.trained()) and not any(key.startswith("sam.") for key in moved)


def test_two_decoders_teach_each_other_an_image_without_a_label():
    """What the labelled slice shows they find on an unlabelled one that looks alike."""
    own, given = objective(), batch(1, 1)
    given["embedding"][1] = given["embedding"][0] + 0.3 * given["embedding"][1]
    optimizer = torch.optim.Adam([own.network.get_parameter(key) for key in own.network.trained()], lr=0.003)
    first = None
    for _ in range(60):
        losses = own(given)
        first = first or float(losses["cross"].detach())
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
    assert losses["cross"] < 0.5 * first and losses["mask"] < 0.4


def test_settings_go_to_run_json_and_numbers_that_are_none_are_refused():
    told = objective(weight=0.3).settings
    assert told["decoders"] == 2
    assert told["cross_prompting"] == {"wanted": True, "weight": 0.3, "consistency": 0.05, "start": 0, "batch": 4}
    refused = {"cross_weight": {"weight": -1}, "cross_batch": {"batch": 0}, "cross_from": {"start": "x"}}
    for name, wrong in refused.items():
        with pytest.raises(InputError, match=name):
            module.CrossPrompting(**wrong)
