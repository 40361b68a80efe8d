from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy, interpolate

from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

module = import_bundle("sam_adapters", "slice_model.adapted_sam")
REACH = import_bundle("sam_adapters", "slice_model.depth").REACH
InputError = import_bundle("sam_adapters", "common.errors").InputError
CLASSES, SIZE = 3, (24, 32)
FORMS = {
    "tokens": {"decoder": "tokens"},
    "ma_sam": {"decoder": "full", "depth": "slab"},
    "adapter_3d": {"decoder": "full", "depth": "slab3d"},
    "h_sam": {"decoder": "hierarchical"},
    "auto_sam": {"decoder": "frozen", "prompts": "dense"},
    "esp_medsam": {"decoder": "sam", "prompts": "patch_map"},
    "self_prompt_sam": {"decoder": "sam", "prompts": "self", "depth": "slab"},
    "db_sam": {"decoder": "full", "side_branch": True},
    "med_sa": {"decoder": "tokens", "depth": "attention", "encoder_adapter": "bottleneck", "adapter_rank": 4},
    "two decoders": {"decoder": "tokens", "decoders": 2},
    "fact": {"decoder": "tokens", "encoder_adapter": "fact", "adapter_rank": 4},
}


def build(name: str):
    torch.manual_seed(0)
    return module.AdaptedSam(tiny_sam(attention="encoder_adapter" in FORMS[name]), CLASSES, **FORMS[name])


def seen(network, count: int = 2):
    generator = torch.Generator().manual_seed(1)
    slab = 2 * network.reach + 1
    return torch.randn(count, slab, 32, 8, 8, generator=generator), torch.rand(count, 1, *SIZE, generator=generator)


@pytest.mark.parametrize("name", [name for name in FORMS if name != "two decoders"])  # whose prompts a loss makes
def test_every_part_learns_and_the_sam_does_not(name):
    network = build(name)
    embedding, planes = seen(network)
    mask = torch.randint(0, CLASSES, (2, 4, 4)).repeat_interleave(16, 1).repeat_interleave(16, 2)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    optimizer = torch.optim.Adam([network.get_parameter(key) for key in network.trained()], lr=0.01)
    for _ in range(4):  # what begins at 0 keeps a gradient from what lies before it
        if network.adapted:
            embedding = network.encode(planes)[:, None].expand(-1, 2 * network.reach + 1, -1, -1, -1)
        answer = network(embedding, planes)
        loss = sum(
            cross_entropy(interpolate(logits, (64, 64)), mask)
            for logits in (answer.logits, answer.first)
            if logits is not None
        )
        if answer.patches is not None:
            loss = loss + answer.patches.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    after = network.state_dict()
    moved = {key for key in before if not after[key].equal(before[key])}
    # a bias before a norm, or of attention's keys, has no effect
    assert {key for key in network.trained() if not key.endswith("bias")} <= moved
    assert moved <= set(network.trained())


@pytest.mark.parametrize("name", FORMS)
def test_what_it_says_of_a_volume_is_what_it_says_of_its_slices(name):
    network = build(name).eval()
    embeddings, planes = torch.randn(6, 32, 8, 8), torch.rand(6, 1, *SIZE)
    found = network.segment(embeddings, planes, at_once=4)
    assert found.shape == (CLASSES, 6, *SIZE) and found.dtype == torch.float32
    torch.testing.assert_close(found.sum(0), torch.ones(6, *SIZE), atol=1e-4, rtol=0)
    with torch.no_grad():
        for z in (0, 3, 5):
            around = [min(max(z + step, 0), 5) for step in range(-network.reach, network.reach + 1)]
            answer = network(embeddings[None, around], planes[[z]])
            alone = network.to_slice(answer.logits, SIZE).exp()[0]
            torch.testing.assert_close(found[:, z], alone, atol=1e-5, rtol=1e-4)


def test_only_a_form_with_a_mixer_looks_at_neighbours():
    assert {name for name in FORMS if build(name).reach} == {"ma_sam", "adapter_3d", "self_prompt_sam", "med_sa"}
    assert REACH == 2


@pytest.mark.parametrize("name", ["ma_sam", "h_sam", "db_sam"])
def test_masks_are_as_fine_as_the_encoders_pixels(name):
    network = build(name)
    answer = network(*seen(network))
    assert answer.logits.shape == (2, CLASSES, 64, 64)
    assert (answer.first is not None) == (name == "h_sam")


@torch.no_grad()
def test_logits_on_a_slice_are_interpolated_or_their_probabilities_averaged():
    network = build("tokens")
    logits = torch.zeros(1, CLASSES, 64, 64)
    logits[:, 1, :, :32] = 8.0  # the left half of the square, and of a slice, which is as wide
    finer, coarser = (network.to_slice(logits, size).exp() for size in ((96, 128), (6, 8)))
    assert finer.shape == (1, CLASSES, 96, 128) and coarser.shape == (1, CLASSES, 6, 8)
    for found in (finer, coarser):
        middle = found.shape[-1] // 2
        assert (found[:, 1, :, : middle - 1] > 0.99).all() and (found[:, 1, :, middle + 1 :] < 0.4).all()
        torch.testing.assert_close(found.sum(1), torch.ones_like(found[:, 0]), atol=1e-4, rtol=0)


@torch.no_grad()
def test_the_padding_of_a_slice_that_is_not_square_is_left_out():
    network = build("tokens")
    logits = torch.zeros(1, CLASSES, 64, 64)
    logits[:, 2, 48:] = 8.0  # beyond the slice: 24 rows of 32 columns fill 48 of 64
    assert (network.to_slice(logits, SIZE).exp()[:, 2] < 0.4).all()


def test_a_structure_that_the_head_does_not_see_is_not_asked_about():
    network = build("self_prompt_sam")
    with torch.no_grad():
        network.prompts.head[-1].weight.zero_()
        network.prompts.head[-1].bias.copy_(torch.tensor([0.0, 1.0, -1.0]))  # the first structure everywhere
        answer = network(*seen(network))
    assert (answer.logits[:, 2] == -10).all() and (answer.logits[:, 1] != -10).any()


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"decoder": "unet"}, "decoder is 'unet'; wanted one of tokens, full, hierarchical, sam, frozen"),
        ({"depth": "lstm"}, "depth is 'lstm'; wanted one of slab, slab3d, attention"),
        ({"decoder": "sam"}, "prompts is null; wanted one of dense, patch_map, self where decoder is sam"),
        ({"prompts": "dense"}, "prompts is 'dense'; wanted null where decoder is full"),
        ({"decoders": 3}, "decoders is 3; wanted 1 or 2"),
        (
            {"decoders": 2, "decoder": "hierarchical"},
            "decoders is 2; wanted 1 where decoder is hierarchical, or decoder tokens or full",
        ),
        ({"decoder": "sam", "prompts": "self", "self_prompt": "click"}, "self_prompt is 'click'; wanted one of box"),
    ],
)
def test_parts_that_are_none_or_do_not_fit_are_refused(options, wanted):
    with pytest.raises(InputError, match=wanted):
        module.AdaptedSam(tiny_sam(), CLASSES, **options)


def test_a_sam_with_a_decoder_of_another_kind_has_no_tokens_to_learn():
    sam = tiny_sam()
    sam.mask_decoder = torch.nn.Identity()
    with pytest.raises(InputError, match="its mask decoder is Identity; wanted one of segment_anything"):
        module.AdaptedSam(sam, CLASSES)


@pytest.mark.parametrize("name", ["ma_sam", "h_sam", "db_sam"])
def test_a_form_with_pixels_of_its_own_begins_undecided_however_large_sams_kernels_are(name):
    torch.manual_seed(0)
    sam = tiny_sam()
    sam.mask_decoder.output_hypernetworks_mlps[0].layers[-1].bias.data += 30
    network = module.AdaptedSam(sam, CLASSES, **FORMS[name])
    with torch.no_grad():
        logits = network(*seen(network)).logits
    # of products of a hundred, MobileSAM's, a first step makes masks that are sure and wrong, without any gradient
    assert logits.abs().mean() < 2, float(logits.abs().mean())
