"""A volume, slice by slice and yet as a volume."""

from __future__ import annotations

import pytest
import torch

from support.ada_sam.structures import SIZE, SeeingNetwork, dice, embeddings_of, one_hot, structures
from support.bundle.path import import_bundle
from support.networks.tiny_sam import tiny_sam

volume = import_bundle("ada_sam", "volume.volume_inference")
ada_sam = import_bundle("ada_sam", "slice_model.ada_sam")
InputError = import_bundle("ada_sam", "common.errors").InputError

PLAIN = {
    "presence_sigma": 0.0,
    "use_extents": False,
    "cam_sigma": 0.0,
    "box_median": 1,
    "passes": 1,
    "propagate": False,
    "smooth": 0.0,
    "largest_component": False,
    "longest_run": False,
    "fill_holes": False,
}


def make(network=None, slice_axis=2, **settings):
    return volume.VolumeInference(network or SeeingNetwork(), slice_axis, **settings)


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
@pytest.mark.parametrize("settings", [PLAIN, {"smooth": 0.0}, {}], ids=["plain", "all but smoothing", "all"])
def test_what_the_network_sees_is_segmented_along_any_axis(slice_axis, settings):
    found = structures().movedim(3, slice_axis + 1).contiguous()
    size = tuple(found.shape[1:])
    network = SeeingNetwork(tuple(n for axis, n in enumerate(size) if axis != slice_axis)).train()
    answer = make(network, slice_axis, **settings)(embeddings_of(found, slice_axis), size)
    count = SIZE[2]
    shapes = {name: tuple(getattr(answer, name).shape) for name in answer._fields}
    assert shapes == {
        "probabilities": (3, *size),
        "presence": (2, count),
        "gate": (2, count),
        "boxes": (2, count, 4),
        "confidence": (2, count),
        "runs": (2,),
    }
    assert torch.allclose(answer.probabilities.sum(0), torch.ones(()), atol=1e-5)
    slices = found.movedim(slice_axis + 1, 1).flatten(2).any(2)
    if settings.get("smooth", 1.0) == 0:
        assert answer.probabilities.argmax(0).equal(one_hot(found).argmax(0)) and answer.gate.equal(slices)
    assert all(dice(p, t) > 0.8 for p, t in zip(answer.probabilities[1:], found.float(), strict=True))
    assert network.training and network.dropout.training  # left as it was
    assert 0 <= float(answer.confidence.min()) and float(answer.confidence.max()) <= 1


def test_one_class_is_the_sigmoid_of_its_logits():
    network = SeeingNetwork()
    network.classes, network.extents = 1, torch.zeros(1, 2)
    found = structures()[:1]
    answer = make(network, **PLAIN)(embeddings_of(found), SIZE)
    logit = 4 + 0.1 * torch.tensor(0.99).logit()  # of a voxel inside, with its map as a mask prompt
    assert torch.allclose(answer.probabilities[1][found[0]], logit.sigmoid())


# --- presence


def test_known_bits_are_the_gate_whatever_the_network_sees():
    found = structures()
    bits = torch.zeros(2, 10, dtype=torch.bool)
    bits[0, 3:5] = bits[0, 6] = True
    answer = make(smooth=0.0)(embeddings_of(found), SIZE, bits)
    assert answer.gate.equal(bits) and answer.runs.tolist() == [2, 0]
    assert not answer.probabilities[2].any() and not answer.probabilities[1][..., 5].any()
    assert (answer.probabilities[0][..., 7:] == 1).all()
    assert answer.presence.equal(make(**PLAIN)(embeddings_of(found), SIZE).presence)  # what it would have said
    assert answer.confidence[~bits].eq(1).all()


def test_an_absent_class_is_never_asked_for_and_an_empty_volume_costs_no_answer():
    network, found = SeeingNetwork(), structures()
    found[1] = False
    answer = make(network)(embeddings_of(found), SIZE)
    assert not answer.probabilities[2].any() and not answer.gate[1].any()
    front = answer.boxes[0][answer.gate[0]]
    assert all(bool((front == box).all(1).any()) for box in network.prompts[0]["boxes"])
    assert sum(len(prompt["boxes"]) for prompt in network.prompts) == 2 * 6 + 5  # two passes, all but the seed again
    network.prompts.clear()
    answer = make(network)(torch.zeros_like(embeddings_of(found)), SIZE)
    assert not network.prompts and (answer.probabilities[0] == 1).all()


def test_a_slice_that_flickers_is_bridged_and_a_far_one_dropped():
    seen = embeddings_of(structures())
    seen[5, 0] = 0.45 * seen[5, 0]  # presence logit -0.4
    seen[0, 0, 3:6, 3:6] = 1.0
    gate = make(presence_sigma=0.0)(seen, SIZE).gate
    assert gate[0].int().tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    plain = make(**PLAIN, hysteresis=(0.5, 0.5))(seen, SIZE)
    assert plain.gate[0].int().tolist() == [1, 0, 1, 1, 1, 0, 1, 1, 0, 0] and plain.runs.tolist() == [3, 1]


def test_a_class_is_on_as_many_slices_as_the_training_volumes_have_unless_bits_say_otherwise():
    found, network = structures(), SeeingNetwork()
    seen = 0.4 * embeddings_of(found)  # a scan on which all looks faint: no presence is above 0.5
    seen[3:6, 0] *= 1.1
    assert not make(network)(seen, SIZE).gate.any()
    network.extents = torch.tensor([[3.0, 4.0], [0.0, 0.0]])  # nothing is known of the second class
    gate = make(network, presence_sigma=0.0, hysteresis=(0.5, 0.5))(seen, SIZE).gate
    assert gate[0].nonzero().flatten().tolist() == [3, 4, 5] and not gate[1].any()
    assert not make(network, use_extents=False)(seen, SIZE).gate.any()
    bits = torch.zeros(2, 10, dtype=torch.bool)
    assert make(network)(seen, SIZE, bits).gate.equal(bits)


def test_runs_and_components_by_label_value():
    seen = embeddings_of(structures())
    seen[0, 0, 3:6, 3:6] = 1.0
    seen[0, 1, 10:13, 7:9] = 1.0
    settings = {**PLAIN, "label_values": [0, 1, 4]}
    answer = make(**{**settings, "longest_run": [4]})(seen, SIZE)
    assert answer.gate[0, 0] and not answer.gate[1, 0]
    answer = make(**{**settings, "largest_component": [1]})(seen, SIZE)
    hard = answer.probabilities.argmax(0)
    assert not (hard[..., 0] == 1).any() and (hard[..., 0] == 2).any()


# --- boxes and passes


def test_boxes_are_those_of_the_maps_without_a_jump():
    seen = embeddings_of(structures())
    seen[4, 0, 15, 11] = 1.0  # a hot cell, too light to stretch the box
    seen[5, 0] = 0
    seen[5, 0, 12:16, 0:3] = 1.0  # a jump
    plain = make(**PLAIN)(seen, SIZE)
    assert plain.boxes[0, 4].equal(plain.boxes[0, 3]) and plain.boxes[0, 5, 0] > 10
    smooth = make(**{**PLAIN, "box_median": 3})(seen, SIZE)
    assert smooth.boxes[0, 5].equal(smooth.boxes[0, 3])
    smooth = make(**{**PLAIN, "cam_sigma": 1.0})(seen, SIZE)
    assert smooth.boxes[0, 5, 0] < 6


def test_a_faint_slice_stays_faint_over_the_volume_and_not_by_itself():
    seen = embeddings_of(structures())
    seen[3, 0] *= 0.6
    asked = {}
    for scope in ("volume", "slice", "running"):
        network = SeeingNetwork()
        make(network, **PLAIN, cam_scope=scope)(seen, SIZE)
        asked[scope] = network.prompts[0]["masks"][1].sigmoid()  # slice 3 of the first class, as a mask prompt
    assert float(asked["volume"].max()) == pytest.approx(0.6, abs=1e-3)
    assert float(asked["slice"].max()) == pytest.approx(0.99)
    assert asked["running"].allclose(seen[3, 0].clamp(0.01, 0.99))


def test_first_prompts():
    whole = torch.tensor([0.0, 0.0, 16.0, 12.0])
    asked = {}
    for first in ("cam", "whole", "both"):
        network = SeeingNetwork()
        make(network, **{**PLAIN, "first_prompt": first})(embeddings_of(structures()), SIZE)
        asked[first] = [bool((prompt["boxes"] == whole).all()) for prompt in network.prompts]
        assert all((prompt["masks"] is None) == is_whole for prompt, is_whole in zip(network.prompts, asked[first]))  # noqa: B905
    assert asked == {"cam": [False] * 2, "whole": [True] * 2, "both": [False, True] * 2}  # of two structures


@pytest.mark.parametrize("given", [True, False])
def test_further_passes_ask_with_the_own_answer(given):
    network = SeeingNetwork()
    seen = embeddings_of(structures())
    seen[:, 1] = 0  # a prompt names no class: the box of a whole slice would find both
    seen[4, 0] = seen[4, 0].maximum(torch.full((16, 12), 0.45))  # a map that is everywhere, an answer that is not
    settings = {**PLAIN, "passes": 3, "answer_prompt": given}
    boxes = make(network, **settings)(seen, SIZE).boxes
    first, second, third = network.prompts
    assert first["boxes"][2].tolist() == boxes[0, 4].tolist() == [0, 0, 16, 12]  # slice 2 is the first asked
    assert second["boxes"][2].equal(second["boxes"][1]) and third["boxes"].equal(second["boxes"])
    assert (second["masks"] is not None) == given == (third["masks"] is not None)
    if given:
        assert not third["masks"].equal(second["masks"])


@pytest.mark.parametrize(("networks", "own", "given"), [(True, None, True), (False, None, False), (True, False, False)])
def test_maps_as_mask_prompts_are_left_to_the_network_unless_told(networks, own, given):
    network = SeeingNetwork(mask_prompt=networks)
    make(network, **PLAIN, mask_prompt=own)(embeddings_of(structures()), SIZE)
    assert (network.prompts[0]["masks"] is not None) == given


def test_a_patch_map_takes_the_place_of_the_activation_maps():
    class Patching(SeeingNetwork):
        """Its patch map sees the second class in the second half of the rows of patches."""

        def __init__(self):
            super().__init__()
            self.patch_map = True

        def patches(self, embedding):
            found = torch.zeros(len(embedding), 2, 4, 3, dtype=torch.bool)
            found[:, 1, 2:] = True
            return found

        def ask(self, embedding, boxes, masks):
            logits = super().ask(embedding, boxes, None)
            self.prompts[-1]["masks"] = masks
            return logits

    network = Patching()
    make(network, **PLAIN | {"passes": 2}, batch_size=64)(embeddings_of(structures()), SIZE)
    first, again, second, _ = (prompt["masks"] for prompt in network.prompts)
    assert first.shape == (6, 4, 3) and not first.any() and again is None
    assert second.dtype == torch.bool and second[:, 2:].all() and not second[:, :2].any()


def test_only_slices_with_something_to_ask_are_decoded_and_chunks_change_nothing():
    seen = embeddings_of(structures())
    network = SeeingNetwork()
    whole = make(network, batch_size=64)(seen, SIZE)
    assert len(network.prompts[0]["embedding"]) == 6  # slices 2 to 7
    parts = make(batch_size=2)(seen, SIZE)
    for one, other in zip(whole, parts, strict=True):
        assert torch.allclose(one.float(), other.float())


def test_propagation_mends_a_slice_whose_map_is_elsewhere():
    class Timid(SeeingNetwork):
        """Its slice 6 sees little of the structure by itself, and all of it with a mask prompt that says so."""

        def ask(self, embedding, boxes, masks):
            logits = super().ask(embedding, boxes, masks)
            timid = embedding[:, 0].amax((1, 2)) < 0.95
            if masks is not None:
                logits = torch.where(timid[:, None, None] & (masks > 2), 4.0, logits)
            return logits

    found = structures()
    seen = embeddings_of(found)
    seen[:, 1] = 0  # a prompt names no class: the other structure would be found, too
    seen[6, 0] = 0.9 * seen[6, 0]
    seen[6, 0, :, 4:] = 0.0
    settings = {**PLAIN, "passes": 2, "propagate_share": 1.0, "answer_prompt": True}
    without = make(Timid(), **settings)(seen, SIZE)
    with_it = make(Timid(), **{**settings, "propagate": True})(seen, SIZE)
    hard = [answer.probabilities.argmax(0)[..., 6] == 1 for answer in (without, with_it)]
    assert dice(hard[0], found[0, ..., 6]) < 0.8 and dice(hard[1], found[0, ..., 6]) > 0.9
    # its confidence falls with the two answers that don't agree
    assert with_it.confidence[0, 6] < without.confidence[0, 6]


# --- the bound


def test_oracle_uses_the_boxes_of_the_truth_and_nothing_else():
    found, network = structures(), SeeingNetwork()
    seen = torch.ones_like(embeddings_of(found))  # it sees everything everywhere
    answer = make(network, smooth=0.0).oracle(seen, found)
    hard = answer.probabilities.argmax(0)
    assert answer.gate.equal(found.flatten(1, 2).any(1)) and len(network.prompts) == 2
    assert network.prompts[0]["masks"] is None
    rows, columns = found[0, ..., 4].nonzero().T
    assert answer.boxes[0, 4].tolist() == [rows.min(), columns.min(), rows.max() + 1, columns.max() + 1]
    assert (hard[..., :2] == 0).all() and (hard[..., 2] == 1).sum() == (rows.max() - rows.min() + 1) ** 2


# --- the real network


def real(feedback, classes=2):
    torch.manual_seed(3)
    network = ada_sam.AdaSam(tiny_sam(), (14, 12), classes, hidden=8, feedback=feedback, amp=False)
    if feedback:
        torch.nn.init.normal_(network.feedback.out.weight, std=0.1)
    return network.train()


@pytest.mark.parametrize("feedback", [False, True])
def test_the_real_network_in_a_training_loop_under_no_grad(feedback):
    network = real(feedback)
    embeddings = torch.randn(6, 32, 8, 8, generator=torch.Generator().manual_seed(0))
    bits = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 0]]).bool()
    inference = make(network, smooth=0.5, batch_size=4)
    with torch.no_grad():
        first, second = (inference(embeddings, (14, 12, 6), bits) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert one.equal(other) and torch.isfinite(one.float()).all() and not one.requires_grad
    assert network.training and not network.sam.training
    assert (first.probabilities[0][..., [0, 5]] == 1).all()
    if feedback:
        assert not first.presence.equal(network.eval().look(embeddings).presence.sigmoid().T)
    alone = inference(embeddings, (14, 12, 6))
    assert alone.gate.shape == bits.shape


# --- what cannot be


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"slice_axis": 3}, "slice_axis is 3; wanted 0, 1 or 2"),
        ({"cam_scope": "case"}, "cam_scope is 'case'; wanted one of volume, slice, running"),
        ({"first_prompt": "point"}, "first_prompt is 'point'; wanted one of cam, whole, both"),
        ({"hysteresis": (0.6, 0.3)}, "hysteresis is [0.6, 0.3]; wanted two probabilities, the lower one first"),
        ({"passes": 0}, "passes is 0; wanted 1 or more"),
        ({"box_median": 4}, "box_median is 4; wanted an odd number"),
        ({"propagate_share": 1.5}, "propagate_share is 1.5; wanted 0 to 1"),
        ({"label_values": [0, 1]}, "label_values are [1] without background; wanted 2"),
        ({"label_values": [0, 1, 4], "longest_run": [2]}, "longest_run has [2]"),
        ({"largest_component": [3]}, "largest_component has [3]; wanted true, false, or some of [1, 2]"),
    ],
)
def test_settings_that_cannot_be(settings, words):
    with pytest.raises(InputError) as error:
        make(**settings)
    assert words in str(error.value)


def test_shapes_that_do_not_belong_together():
    seen, found, inference = embeddings_of(structures()), structures(), make()
    for arguments, words in (
        ((seen[:4], SIZE), "embeddings are (4, 2, 16, 12); wanted [10, C, h, w]"),
        ((seen, (16, 13, 10)), "cut along axis 2; wanted slices (16, 12)"),
        ((seen, SIZE, torch.ones(1, 10)), "bits are (1, 10); wanted (2, 10)"),
    ):
        with pytest.raises(InputError) as error:
            inference(*arguments)
        assert words in str(error.value)
    with pytest.raises(InputError, match="truth are"):
        inference.oracle(seen, found[:1])


def test_settings_name_all_that_an_answer_depends_on():
    assert make().settings == make(batch_size=3).settings
    assert make().settings != make(passes=3).settings and "network" not in make().settings
