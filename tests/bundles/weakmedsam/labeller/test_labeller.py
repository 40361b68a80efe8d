"""Settings, priors and thresholds of `PseudoLabeller`; its rounds are in test_weak_labeller_rounds.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from support.bundle.path import import_bundle
from support.weakmedsam.fake import SIZE, SPACING, one_hot, presence, structures
from support.weakmedsam.labeller import BOXES, Bright, Classifier, Features, dice, location, make

InputError = import_bundle("weakmedsam", "common.errors").InputError

VOXEL_ML = SPACING[0] * SPACING[1] * SPACING[2] / 1000


# --- settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"prior": "atlas"}, "prior is 'atlas'; wanted one of auto, box, cam, centre"),
        ({"prior": "box", "boxes": (BOXES[0], None)}, "prior is box, but locations has none for label 4"),
        ({"prior": "cam"}, "no features"),
        ({"threshold": "area"}, "threshold is 'area'"),
        ({"threshold": 1.0}, "threshold is 1.0"),
        ({"threshold": "size", "sizes": (1.0, None)}, "threshold is size"),
        ({"rounds": -1}, "rounds is -1"),
        ({"rounds": "many"}, "rounds is 'many'"),
        ({"walk_passes": 0}, "walk_passes is 0; wanted a whole number of 1 or more"),
        ({"sharing": "organ"}, "sharing is 'organ'; wanted one of auto, each, union"),
        ({"map_scope": "case"}, "map_scope is 'case'; wanted one of volume, slice"),
        ({"ignore_band": 0.5}, "ignore_band is 0.5"),
        ({"ignore_band": -0.1}, "ignore_band is -0.1"),
    ],
)
def test_settings_that_cannot_be(tmp_path, settings, words):
    with pytest.raises(InputError) as error:
        make(tmp_path, **settings)
    assert words in str(error.value) and not list(tmp_path.iterdir())


def test_several_problems_together(tmp_path):
    with pytest.raises(InputError) as error:
        make(tmp_path, prior="atlas", rounds=-2, walk_passes=0, ignore_band=2)
    assert len(error.value.problems) == 4


@pytest.mark.parametrize(
    ("settings", "prior", "threshold"),
    [
        ({}, "box", "box"),
        ({"sizes": (1.0, 2.0)}, "box", "size"),
        ({"boxes": (BOXES[0], None), "features": Features()}, "cam", "otsu"),
        ({"prior": "centre", "sizes": (1.0, None)}, "centre", "otsu"),
        ({"prior": "centre", "sizes": (1.0, 2.0)}, "centre", "size"),
    ],
)
def test_what_auto_chooses(tmp_path, settings, prior, threshold):
    labeller = make(tmp_path, **{"prior": "auto", "threshold": "auto", **settings})
    assert (labeller.prior, labeller.threshold, labeller.needs_classifier) == (prior, threshold, prior == "cam")


@pytest.mark.parametrize("word", [None, "null", "None"])
@pytest.mark.parametrize(("prior", "rounds", "passes"), [("box", 4, 1), ("centre", 4, 1), ("cam", 0, 3)])
def test_an_activation_map_is_walked_thrice_and_has_no_rounds_unless_told(tmp_path, word, prior, rounds, passes):
    settings = {"prior": prior, "features": Features(), "classifier": Classifier()}
    labeller = make(tmp_path, rounds=word, walk_passes=word, **settings)
    assert (labeller.rounds, labeller.walk_passes) == (rounds, passes)
    told = make(tmp_path, rounds="2", walk_passes=5, **settings)
    assert (told.rounds, told.walk_passes) == (2, 5)


def test_labels_share_a_map_by_the_slices_that_they_are_on(tmp_path):
    assert make(tmp_path).groups == [0, 1]  # on two slices both
    assert make(tmp_path, sharing="union").groups == [0, 0]
    behind = np.zeros((2, SIZE[2]), dtype=bool)
    behind[0, 2:5] = behind[1, 5:8] = True
    assert make(tmp_path, bits=behind).groups == [0, 0]
    assert make(tmp_path, bits=behind, sharing="each").groups == [0, 1]


def test_nothing_before_the_start(tmp_path):
    labeller = make(tmp_path)
    for early in (lambda: labeller.load("case_0"), lambda: labeller.finish(Bright())):
        with pytest.raises(RuntimeError, match="start comes first"):
            early()
    with pytest.raises(RuntimeError, match="renew before start"):
        labeller.renew(2, Bright())


# --- priors


def test_box_prior_is_the_ellipse_on_positive_slices(tmp_path):
    labeller = make(tmp_path, prior="box")
    item = labeller.images[0]
    maps = labeller.make_prior(item)
    wanted = torch.stack([location.location_prior(item["image"], box, 2) for box in BOXES]) * presence()
    assert maps.shape == (2, *SIZE) and maps.equal(wanted) and type(maps) is Tensor
    assert maps[0, ..., 3].amax() > 0.9 and maps[0, ..., 6].eq(0).all()


def test_centre_prior_is_one_ellipse_for_all_labels(tmp_path):
    labeller = make(tmp_path, prior="centre", boxes=(None, None))
    maps, bits = labeller.make_prior(labeller.images[1]), presence()
    wanted = location.centre_prior(labeller.images[1]["image"], 2)
    assert maps.shape == (2, *SIZE) and maps.equal(wanted * bits)


@pytest.mark.parametrize("scope", ["volume", "slice"])
def test_activation_maps_lie_where_the_classifier_looked(tmp_path, scope):
    labeller = make(tmp_path, prior="cam", features=Features(), classifier=Classifier(), map_scope=scope)
    labeller.classifier.train()
    maps, bits = labeller.make_prior(labeller.images[0]), presence()
    assert labeller.classifier.training  # it is left as it was
    assert maps.shape == (2, *SIZE) and maps[bits == 0].eq(0).all() and 0 <= maps.amin() and maps.amax() <= 1
    # token (1, 0) of 4 x 3 is rows 4 to 7 and columns 0 to 3, token (3, 2) rows 12 to 15 and columns 8 to 11
    for own, rows, columns in zip(maps, (slice(4, 8), slice(12, 16)), (slice(0, 4), slice(8, 12)), strict=True):
        assert own[rows, columns].sum() > 0.5 * own.sum() and own.amax() > 0.9


# --- thresholds


def test_the_expected_size_is_what_is_left_above_one_half(tmp_path):
    labeller = make(tmp_path, threshold="size", sizes=(20 * 4 * VOXEL_ML, 30 * 5 * VOXEL_ML))  # 4 and 5 positive slices
    assert labeller.shares() == pytest.approx([20 / (SIZE[0] * SIZE[1]), 30 / (SIZE[0] * SIZE[1])])
    maps = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0)) * presence()
    assert (labeller.calibrate(maps, presence()) > 0.5).flatten(1).sum(1).tolist() == [80, 150]


def test_without_a_size_the_box_says_how_much(tmp_path):
    labeller = make(tmp_path, threshold="auto")
    shares = labeller.shares()
    sides = [0.4 * 0.5, 0.4 * 0.6]
    assert shares == pytest.approx([torch.pi / 4 * area for area in sides], rel=0.15)
    maps = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0)) * presence()
    found = (labeller.calibrate(maps, presence()) > 0.5).flatten(1).sum(1).tolist()
    assert found == [round(share * n) for share, n in zip(shares, presence().flatten(1).sum(1).tolist(), strict=True)]


def test_otsu_parts_two_kinds_and_a_number_is_a_number(tmp_path):
    bits = presence()
    maps = (0.1 + 0.2 * one_hot()[1:] + 0.02 * torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))) * bits
    otsu = make(tmp_path, threshold="otsu").calibrate(maps, bits)
    assert (otsu > 0.5).float().equal(one_hot()[1:])
    assert make(tmp_path, threshold=0.05).calibrate(maps, bits)[bits > 0].gt(0.5).all()
    assert make(tmp_path, threshold=0.6).calibrate(maps, bits).lt(0.5).all()


def test_calibration_moves_the_threshold_to_one_half_and_keeps_the_order(tmp_path):
    labeller, bits = make(tmp_path, threshold=0.3), torch.ones(1, 1, 1, 7)
    maps = torch.tensor([0.0, 0.1, 0.299, 0.3, 0.301, 0.8, 1.0]).view(1, 1, 1, 7)
    found = labeller.calibrate(maps, bits).flatten()
    assert found[3] == pytest.approx(0.5, abs=1e-6) and found.diff().gt(0).all()
    assert found[:3].lt(0.5).all() and found[4:].gt(0.5).all() and found[0] < 1e-3 and found[-1] > 1 - 1e-3
    half = make(tmp_path, threshold=0.5).calibrate(maps, bits)
    assert torch.allclose(half, maps, atol=1e-5)  # 0.5 is there already


def test_what_the_network_is_all_too_sure_of_is_still_cut_at_its_size(tmp_path):
    labeller, bits = make(tmp_path, threshold="size", sizes=(20 * 4 * VOXEL_ML, 30 * 5 * VOXEL_ML)), presence()
    logits = 7.5 + 3 * torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0))  # from 0.9994 on
    for sure in (logits, -logits):
        found = labeller.calibrate(torch.sigmoid(sure) * bits, bits)
        assert (found > 0.5).flatten(1).sum(1).tolist() == pytest.approx([80, 150], abs=2)  # some are equal


@pytest.mark.parametrize("threshold", ["otsu", "size"])
def test_a_map_that_says_nothing_and_a_label_that_is_not_there(tmp_path, threshold):
    labeller, bits = make(tmp_path, threshold=threshold, sizes=(0.2, 0.3)), presence()
    bits[1] = 0
    maps = torch.rand(2, *SIZE, generator=torch.Generator().manual_seed(0)) * bits
    if threshold == "otsu":
        maps[0] = 0.7 * bits[0]
    found = labeller.calibrate(maps, bits)
    assert found.isfinite().all() and found[1].eq(0).all()
    assert int((found[0] > 0.5).sum()) == (
        0 if threshold == "otsu" else round(labeller.shares()[0] * int(bits[0].sum()))
    )


# --- judging


def test_judgement_is_by_label_value(tmp_path):
    labeller = make(tmp_path, prior="box", threshold=0.5)
    item = labeller.images[0]
    prior = labeller.make_prior(item)
    judged = labeller.judge(one_hot(), prior, presence())
    assert set(judged) == {"volume_ml", "agreement", "z_consistency"}
    counts = [int((structures() == k).sum()) for k in (1, 2)]
    assert judged["volume_ml"] == {"1": pytest.approx(counts[0] * VOXEL_ML), "4": pytest.approx(counts[1] * VOXEL_ML)}
    wanted = [dice(own, label) for own, label in zip(prior, one_hot()[1:], strict=True)]
    assert list(judged["agreement"].values()) == pytest.approx(wanted)
    # cylinders of 4 and 5 equal slices: pairs within over pairs with an end
    assert judged["z_consistency"] == {"1": pytest.approx(3 / 4), "4": pytest.approx(4 / 5)}


def test_what_lies_in_a_boxs_box_is_the_inner_labels_and_the_outer_one_is_a_ring(tmp_path):
    boxes = ((0.1, 0.9), (0.1, 0.9), (0.0, 1.0)), ((0.3, 0.7), (0.25, 0.75), (0.0, 1.0))
    bits = torch.ones(2, *SIZE)
    sizes = (40 * 10 * VOXEL_ML, 20 * 10 * VOXEL_ML)  # 40 and 20 voxels of each of 10 slices
    labeller = make(tmp_path, prior="box", boxes=boxes, sizes=sizes, threshold="size")
    for item in labeller.images:
        item["presence"] = bits
    maps = labeller.calibrate(labeller.make_prior(labeller.images[0]), bits) > 0.5
    ring, core = maps[0, ..., 4], maps[1, ..., 4]
    alone = location.location_prior(labeller.images[0]["image"], boxes[1], 2)[..., 4]
    assert core.sum() == pytest.approx(20, abs=2) and alone[core].min() > alone[~core].max() - 1e-4
    # the outer one has its whole volume, around the inner one
    assert not (ring & core).any() and ring.sum() == pytest.approx(40, abs=3)
    assert ring.any(0)[core.any(0)].all() and ring.any(1)[core.any(1)].all()
