from __future__ import annotations

import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits as bce

from common.sam.build import build_sam
from common.sam.members.record import Prompts
from support.ada_sam.batch import SIZE, make_network, make_slices
from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

module = import_bundle("ada_sam", "slice_model.ada_sam")
AdaSam, InputError, NOT_ASKED = module.AdaSam, module.InputError, module.NOT_ASKED
ROWS, COLUMNS = SIZE  # 32 x 32, as maps of 8 x 8
KINDS = (
    {"head": "cam"}, {"head": "mlp"}, {"cam_range": "sigmoid"}, {"feedback": True}, {"dense_prompt": "patch_map"},
)  # fmt: skip


def make(awake=False, **options):
    """A tiny network in eval mode; `awake`: its feedback no longer starts at zero."""
    network = make_network(**options).eval()
    if awake:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            torch.manual_seed(5)
            network.feedback.out.weight.normal_()
        network.feedback.dropout = 0.0
    return network


def embed(network, count=4):
    with torch.no_grad():
        return network.encode(make_slices(count)[0])


def dice(pred, label):
    return 2 * (pred * label).sum((1, 2)) / (pred.sum((1, 2)) + label.sum((1, 2)))


def looks_equal(one, other, **tolerance):
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def looks_differ(one, other):
    assert all(not torch.equal(a, b) for a, b in zip(one, other, strict=True))


def constant_maps(network, *values):
    """Let the convolution's maps be one value everywhere."""
    with torch.no_grad():
        network.head.last.weight.zero_()
        network.head.last.bias.copy_(torch.tensor(values))


@pytest.mark.parametrize(("feedback", "count"), [(False, 4_425_778), (True, 4_425_778 + 65_984)])
def test_size_of_the_released_form(feedback, count):
    with torch.device("meta"):
        sam = build_sam("sam_vit_b", pretrained=False)
        network = AdaSam(sam, (256, 256), 2, hidden=256, lora_rank=8, head="mlp", mask_prompt=False, feedback=feedback)
    assert sum(p.numel() for p in network.parameters() if p.requires_grad) == count


@pytest.mark.parametrize("options", [*KINDS, {"lora_rank": 2, "feedback": "gt"}])
def test_what_is_trained_and_only_that_asks_for_gradients(options):
    network = make(**options).train()
    names = network.trainable_parameters()
    assert {name for name, p in network.named_parameters() if p.requires_grad} == set(names)
    parts = {name.removeprefix("sam.").split(".")[0] for name in names}
    wanted = {"head", "prompt_encoder", "mask_decoder"} | (options.keys() & {"feedback"})
    wanted |= {"patch_map"} & set(options.values())
    assert parts - {"image_encoder"} == wanted
    # of the encoder the adapters alone: a down and an up projection for q and v of two blocks
    assert sum(name.startswith("sam.image_encoder.") for name in names) == (8 if "lora_rank" in options else 0)
    assert network.head.training and not any(part.training for part in network.sam.modules())
    assert network.adapted_tensors() == [*names, "cam_low", "cam_high", "extents"]


def test_classifier_of_the_released_code_is_grad_cam_in_closed_form():
    network = make(head="mlp")
    leaf = embed(network).requires_grad_()
    sight = network.look(leaf)
    for k in range(2):
        (gradient,) = torch.autograd.grad(sight.presence[:, k].sum(), leaf, retain_graph=True)
        grad_cam = (gradient.mean((2, 3), keepdim=True) * leaf).sum(1)
        torch.testing.assert_close(sight.maps[:, k] / 64, grad_cam, atol=1e-5, rtol=1e-5)
        assert grad_cam.detach().std() > 1e-4


def test_padding_of_the_encoder_is_no_part_of_the_maps():
    network = AdaSam(tiny_sam(), (14, 28), 2, hidden=8, amp=False)  # a wide slice: the lower half is padding
    embedding = torch.randn(2, 32, 8, 8, generator=torch.Generator().manual_seed(0))
    other = embedding.clone()
    other[:, :, 4:] += 7
    assert network.covered == (0.5, 1.0) and network.cell == 3.5
    assert network.look(embedding).maps.shape == (2, 2, 4, 8) and network.look(embedding).cam.shape == (2, 2, 14, 28)
    looks_equal(network.look(embedding), network.look(other))


@pytest.mark.parametrize("options", KINDS)
@pytest.mark.parametrize("observed", [False, True])
def test_a_batch_is_its_slices_one_by_one(options, observed):
    network = make(awake="feedback" in options, presence_threshold=0.2, batch_size=3, **options)
    embedding = embed(network)
    if observed:
        network.observe(network.look(embedding).maps, torch.ones(4, 2))
    with torch.no_grad():
        whole = network(embedding)
        for i in range(4):
            one = network(embedding[i : i + 1])
            looks_equal(one.first, [x[i : i + 1] for x in whole.first], atol=1e-4, rtol=1e-4)
            looks_equal(one.sight, [x[i : i + 1] for x in whole.sight], atol=1e-4, rtol=1e-4)
            assert torch.equal(one.boxes[0], whole.boxes[i]) and torch.equal(one.asked[0], whole.asked[i])
            torch.testing.assert_close(one.logits[0], whole.logits[i], atol=1e-3, rtol=1e-3)
    assert whole.asked.any()


def test_feedback_starts_as_identity_and_wakes_from_the_output_inwards():
    network = make(feedback=True).train()
    network.feedback.dropout, embedding = 0.0, embed(network)
    optimizer = torch.optim.SGD(network.feedback.parameters(), lr=1.0)
    for step in range(2):
        response = network(embedding)
        (looks_equal if step == 0 else looks_differ)(response.first, response.sight)
        optimizer.zero_grad()
        response.sight.presence.square().sum().backward()
        assert network.feedback.out.weight.grad.abs().sum() > 0
        assert bool(network.feedback.query.weight.grad.abs().sum() > 0) == (step == 1)
        optimizer.step()
    off = network(embedding, feedback_enabled=False)
    assert off.sight is off.first and off.first_logits is None and off.first_asked is None
    looks_equal(off.first, response.first)


def test_feedback_asks_about_the_likeliest_class_at_least():
    network = make(awake=True, feedback=True, presence_threshold=1.0)
    response = network(embed(network))
    likeliest = response.first.presence.argmax(1, keepdim=True)
    assert torch.equal(response.first_asked.nonzero()[:, 1:], likeliest) and not response.asked.any()


@pytest.mark.parametrize("training", [False, True])
def test_feedback_without_gradients_leaves_none(training):
    network = make(awake=True, feedback=True).train(training)
    embedding = embed(network).requires_grad_()
    with torch.no_grad():
        response = network(embedding)
    assert not any(x.requires_grad for x in (*response.first, *response.sight, *response[2:]))
    assert embedding.grad is None and all(p.grad is None for p in network.parameters())
    looks_differ(response.first, response.sight)
    learning = network(embedding)
    assert learning.first_logits.requires_grad and all(p.grad is None for p in network.parameters())
    looks_equal(learning.sight, response.sight)  # the same look with and without


def test_inference_mode_is_refused_unless_feedback_is_off():
    network = make(feedback=True)
    embedding = embed(network)
    with torch.inference_mode():
        with pytest.raises(InputError, match=r"inference_mode, wanted torch\.no_grad, or feedback off"):
            network(embedding)
        assert network(embedding, feedback_enabled=False).logits.shape == (4, 2, *SIZE)


@pytest.mark.parametrize("training", [False, True])
def test_what_is_given_never_changes_what_is_seen(training):
    network = make(awake=True, feedback=True).train(training)
    embedding = embed(network)
    own = network(embedding)
    given = {
        "boxes": torch.tensor([3.0, 4, 20, 21]).expand(4, 2, 4),
        "present": torch.tensor([[0, 1], [1, 0], [1, 1], [0, 0]]).bool(),
        "masks": torch.linspace(-4, 4, COLUMNS).expand(4, 2, *SIZE),
        "true_mask": make_slices(4)[1],  # of no use to the objective without labels
    }
    for some in (*({name: value} for name, value in given.items()), given):
        response = network(embedding, **some)
        looks_equal((*response.first, *response.sight), (*own.first, *own.sight))
        looks_equal((response.first_logits, response.first_asked), (own.first_logits, own.first_asked))
    assert torch.equal(response.boxes, given["boxes"]) and torch.equal(response.asked, given["present"])


def test_own_mask_prompts_follow_the_boxes_and_can_be_cut_from_the_classifier():
    network, present, box = make(), torch.ones(4, 2).bool(), torch.tensor([3.0, 4, 20, 21]).expand(4, 2, 4)
    embedding = embed(network)
    alone, both = (network(embedding, box, present, own_mask=own).logits for own in (None, True))
    assert torch.equal(alone, network.answer(embedding, box)) and not torch.equal(alone, both)
    own = network(embedding, present=present)
    assert torch.equal(own.logits, network(embedding, own.boxes, present, own_mask=True).logits)
    for detach in (True, False):
        network(embedding, present=present, detach_cam=detach).logits.square().sum().backward()
        assert (network.head.last.weight.grad is None) == detach


def test_own_patches_take_the_place_of_the_activation_maps():
    network, present = make(dense_prompt="patch_map"), torch.ones(4, 2).bool()
    embedding = embed(network)
    patches, own = network.patches(embedding), network(embedding, present=present)
    assert patches.shape == (4, 2, 4, 4) and patches.dtype == torch.bool and patches.any() and not patches.all()
    assert torch.equal(own.logits, network.answer(embedding, own.boxes, patches))
    assert not torch.equal(own.logits, network.answer(embedding, own.boxes, ~patches))
    assert torch.equal(own.logits[:, 1], network.ask(embedding, own.boxes[:, 1], patches[:, 1]))
    own.logits.square().sum().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "patch_map.embed.0.weight" in reached
    assert not any(name.startswith(("patch_map.map.", "head.", "sam.prompt_encoder.mask_")) for name in reached)
    with pytest.raises(InputError, match=r"found masks \(4, 2, 2, 2\), wanted \(4, 2, 4, 4\)"):
        network.answer(embedding, own.boxes, patches[..., :2, :2])


def test_by_default_there_is_no_patch_map_and_no_word_of_it():
    own, given = make(), make(dense_prompt="mask")
    assert own.patch_map is None and "dense_prompt" not in own.settings == given.settings
    assert all(torch.equal(a, b) for a, b in zip(own.state_dict().values(), given.state_dict().values(), strict=True))
    assert make(dense_prompt="patch_map").settings["dense_prompt"] == "patch_map"


def test_a_class_that_is_not_asked_about_gets_no_mask():
    network = make()
    embedding, asked = embed(network), torch.tensor([[1, 0], [0, 0], [0, 1], [1, 1]]).bool()
    logits = network(embedding, present=asked).logits
    assert (logits[~asked] == NOT_ASKED).all() and NOT_ASKED == -10
    assert all(mask.std() > 0 for mask in logits[asked])
    everything = network(embedding, present=torch.ones(4, 2)).logits
    torch.testing.assert_close(logits[asked], everything[asked], atol=1e-4, rtol=1e-4)
    constant_maps(network, 5.0, -5.0)  # the own decision: the first class alone, everywhere
    response = network(embedding)
    assert response.asked.tolist() == [[True, False]] * 4 and (response.logits[:, 1] == NOT_ASKED).all()


def test_a_flat_map_stays_flat_and_gives_the_whole_slice_as_box():
    network = make()
    network.cam_low.fill_(-1)
    network.cam_high.fill_(3)
    constant_maps(network, 0.0, -2.0)
    sight = network.look(embed(network))
    torch.testing.assert_close(sight.cam[:, 0], torch.full((4, *SIZE), 0.25))
    assert not sight.cam[:, 1].any()  # below the range
    assert network.own_boxes(sight).tolist() == [[[0, 0, ROWS, COLUMNS]] * 2] * 4
    assert network.whole_slice.tolist() == [0, 0, ROWS, COLUMNS]
    assert torch.equal(network(embed(network)).boxes, network.own_boxes(sight))
    one = torch.zeros(1, 2, *SIZE)
    one[0, 1, 8:20, 10:24] = 1  # the second class has a place, with 5 % of its sides around it
    wanted = torch.tensor([[[0, 0, ROWS, COLUMNS], [7.4, 9.3, 20.6, 24.7]]])
    torch.testing.assert_close(network.own_boxes(sight._replace(cam=one)), wanted)


def test_all_that_is_wrong_with_the_settings_is_said_together():
    sam = tiny_sam()
    sam.prompts = Prompts(masks=False)
    with pytest.raises(InputError) as error:
        AdaSam(
            sam, (8, 8, 8), 0,
            head="conv", cam_range="max", feedback="labels", adapter="ia3", dense_prompt="patches",
        )  # fmt: skip
    said = error.value.problems
    wanted = (
        "adapter: found 'ia3', wanted one of lora|head: found 'conv'|cam_range: found 'max'|"
        "feedback: found 'labels'|found 0 classes|dense_prompt: found 'patches', wanted one of mask, patch_map|"
        "mask_prompt: found tiny"
    )
    assert all(line.startswith(start) for line, start in zip(said, wanted.split("|"), strict=True))
    assert AdaSam(sam, (8, 8), 1, mask_prompt=False).mask_prompt is False
    assert AdaSam(sam, (8, 8), 1, dense_prompt="patch_map").mask_prompt  # which needs no prompt encoder
    with pytest.raises(InputError, match="found patch_map and mask_prompt false, wanted mask_prompt true"):
        AdaSam(sam, (8, 8), 1, mask_prompt=False, dense_prompt="patch_map")


def test_feedback_of_the_truth_acts_in_training_on_slices_with_a_mask():
    network = make(awake=True, feedback="gt")
    embedding, mask = embed(network), make_slices(4)[1]
    mask[2:] = -1
    own = network(embedding)
    looks_equal(network(embedding, true_mask=mask).sight, own.sight)
    looks_equal(network.train()(embedding).sight, own.sight)
    response = network(embedding, true_mask=mask)
    looks_equal(response.first, own.first)
    for now, before in zip(response.sight, own.sight, strict=True):
        assert [bool((a == b).all()) for a, b in zip(now, before, strict=True)] == [False, False, True, True]


def test_four_slices_are_learnt_with_own_prompts():
    network = make(cam_range="sigmoid").train()
    images, mask = make_slices(4)
    truth = torch.stack([mask == 1, mask == 2], 1)
    bits, embedding = truth.flatten(2).any(2), embed(network)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=5e-3)
    for _ in range(100):
        response = network(embedding, present=bits)
        sight, answer, there = response.sight, response.logits[bits], truth[bits].float()
        loss = bce(sight.presence, bits.float()) + bce(network.planes(sight.maps), truth.float())
        loss = loss + bce(answer, there) - dice(answer.sigmoid(), there).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        answered = network.eval()(network.encode(images))
    assert torch.equal(answered.asked, bits)
    assert dice((answered.logits > 0)[bits].float(), truth[bits].float()).min() > 0.95
