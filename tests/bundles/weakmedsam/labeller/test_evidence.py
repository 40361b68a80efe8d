"""What `PseudoLabeller` weighs against each other: prior, location and appearance; and how a coarse map is walked."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn

from support.bundle.path import import_bundle
from support.process.rank import act_as
from support.weakmedsam.fake import SIZE, SPACING, presence
from support.weakmedsam.labeller import BOXES, Bright, Classifier, Features, Walk, files, labeller_module, make, run
from support.weakmedsam.labeller import location as location_module

PseudoLabelBank = import_bundle("weakmedsam", "common.pseudo_labels.store").PseudoLabelBank


class Fixed(nn.Module):
    """Stands for an appearance network that scores every voxel of a map alike."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = logits

    def forward(self, image: Tensor) -> Tensor:
        return torch.tensor(self.logits).view(1, -1, 1, 1, 1).expand(1, -1, *image.shape[2:])


class Watched:
    """A walk that halves its maps and keeps what it was given."""

    settings = "watched"

    def __init__(self) -> None:
        self.given: list[tuple[str, Tensor]] = []

    def edges(self, item):
        return None

    def __call__(self, item, maps, bits, edges=None):
        self.given.append((item["case"], maps.clone()))
        return maps / 2


def banks(folder) -> set[str]:
    return {name.split("/")[1] for name in files(folder)}


def cam(folder, count: int = 2, **settings):
    settings = {"rounds": None, "features": Features(), "classifier": Classifier(), **settings}
    return make(folder, count, prior="cam", **settings)


def logit(value: float) -> float:
    return math.log(value / (1 - value))


# --- appearance: a map for each group of labels


def test_labels_of_one_group_are_told_alike_and_others_apart(tmp_path):
    bits, found = presence() > 0, {}
    for sharing, logits in (("each", (5.0, -5.0)), ("union", (5.0,))):
        labeller = make(tmp_path / sharing, sharing=sharing, prior="centre")
        labeller.start()
        labeller.renew(2, Fixed(*logits))
        found[sharing] = [labeller.target("case_0")[row][bits[row]].float() for row in (0, 1)]
        before = [make_prior[bits[row]] for row, make_prior in enumerate(labeller.make_prior(labeller.images[0]))]
        for row, score in enumerate((5.0, -5.0) if sharing == "each" else (5.0, 5.0)):
            wanted = torch.sigmoid(torch.logit(0.6 * before[row] + 0.02) + score)
            assert torch.allclose(found[sharing][row], wanted, atol=2e-3)
    assert found["union"][0].equal(found["each"][0]) and found["union"][1].mean() > found["each"][1].mean() + 0.5


# --- location: beside the prior


class Place:
    """Stands for a learnt location: the same everywhere."""

    def __init__(self, value: float) -> None:
        self.value = value

    def prior(self, image, bits):
        return torch.full((2, *SIZE), self.value)


@pytest.mark.parametrize("score", [None, 1.5])
@pytest.mark.parametrize("place", [None, 0.0, 0.3, 1.0])
def test_a_box_and_a_learnt_location_have_half_a_say_each(tmp_path, place, score):
    labeller, bits = make(tmp_path, prior="box"), presence()
    labeller.start()
    location, network = None if place is None else Place(place), None if score is None else Fixed(score, score)
    found = labeller._combine(labeller.images[0], network, location)
    before = labeller._bank("prior").load("case_0")["maps"]
    wanted = torch.logit(0.6 * before + 0.02)
    if location is None and network is None:
        assert found.equal(before)
        return
    if location is not None:
        wanted = 0.5 * wanted + 0.5 * logit(0.94 * place + 0.02)
    # appearance counts within half a box's side of the box
    reach = bits if score is None else bits * location_module.box_reach(labeller.images[0]["image"], BOXES, 2)
    assert torch.allclose(found, torch.sigmoid(wanted + (score or 0.0)) * reach, atol=1e-5)
    # labels can't drift away: within the box a voxel is always likelier than outside it
    inside = (before[0] > 0.9) & (bits[0] > 0)
    outside = (before[0] < 0.1) & (bits[0] > 0)
    assert found[0][inside].min() > found[0][outside].max()


@pytest.mark.parametrize("place", [0.0, 0.3, 1.0])
def test_a_learnt_location_only_adds_to_an_activation_map(tmp_path, place):
    labeller, bits = cam(tmp_path), presence()
    labeller.start()
    before = labeller._bank("prior").load("case_0")["maps"]
    found = labeller._combine(labeller.images[0], None, Place(place))
    wanted = torch.logit(before, eps=1e-3) + 0.5 * logit(0.94 * place + 0.02)
    assert torch.allclose(found, torch.sigmoid(wanted) * bits, atol=1e-5) and found.isfinite().all()


# --- passes of the walk


@pytest.mark.parametrize("passes", [1, 3])
def test_a_map_is_walked_and_cut_anew_in_each_pass(tmp_path, passes):
    walk = Watched()
    labeller, bits = make(tmp_path, walk=walk, walk_passes=passes, threshold=0.3), presence()
    labeller.start()
    assert walk.given == []
    labeller.renew(2, Bright())
    assert [case for case, _ in walk.given] == ["case_0"] * passes + ["case_1"] * passes
    maps = [given for _, given in walk.given[:passes]]
    for before, after in pairwise(maps):
        assert torch.allclose(after, labeller.calibrate(before / 2, bits), atol=1e-6) and not after.equal(before / 2)
    assert torch.allclose(labeller.target("case_0"), labeller.calibrate(maps[-1] / 2, bits), atol=2e-3)
    walk.given.clear()
    labeller.finish(Bright())  # round 3, and the final one
    assert [case for case, _ in walk.given] == 2 * (["case_0"] * passes + ["case_1"] * passes)
    assert torch.allclose(labeller.load("case_1")["maps"], labeller.calibrate(walk.given[-1][1] / 2, bits), atol=2e-3)


# --- an activation map without rounds


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({}, {"prior", "round_1", "round_2", "labels"}),
        ({"learn_location": False}, {"prior", "round_1", "labels"}),
        ({"prior": "box"}, {"prior", "round_1", "labels"}),
        ({"prior": "centre"}, {"prior", "round_1", "labels"}),
    ],
)
def test_without_rounds_only_activation_maps_teach_a_location(tmp_path, monkeypatch, settings, kept):
    fitted, fit = [], labeller_module.LearnedLocation.fit
    monkeypatch.setattr(
        labeller_module.LearnedLocation, "fit", lambda self, cases: (fitted.append(1), fit(self, cases))
    )
    settings = {"prior": "cam", "features": Features(), "classifier": Classifier(), "rounds": 0, **settings}
    network = Bright()
    run(make(tmp_path, **settings), network)
    assert banks(tmp_path) == kept and network.calls == 0
    assert len(fitted) == ("round_2" in kept)


def test_the_location_is_learnt_from_the_walked_map_of_the_selected_cases(tmp_path, monkeypatch):
    seen, fit = [], labeller_module.LearnedLocation.fit
    monkeypatch.setattr(
        labeller_module.LearnedLocation, "fit", lambda self, cases: (seen.extend(c := list(cases)), fit(self, c))
    )
    walk = Walk("blur", 2, SPACING, steps=2)
    labeller = cam(tmp_path, 3, walk=walk, reject=("case_1",))
    labeller.start()
    labeller.finish()
    assert labeller.walk_passes == 3 and len(seen) == 2 and labeller.round == 2
    for item, (image, bits, labels) in zip((labeller.images[0], labeller.images[2]), seen, strict=True):
        prior = labeller._bank("prior").load(item["case"])["maps"]
        walked = labeller.spread(item, labeller.calibrate(prior, bits), bits)
        assert image is item["image"] and bits.equal(presence()) and not walked.equal(prior)
        assert ((walked > 0.5) == (labels > 0.5)).float().mean() > 0.999  # kept in half precision


class Erring(Features):
    """In one case of four the first label's map is high somewhere else too."""

    def features(self, case: str) -> Tensor:
        maps = super().features(case)
        if case == "case_3":
            maps[:, 0, 3, 2] = 0.5
        return maps


def test_what_one_case_alone_shows_is_outvoted(tmp_path):
    spot, elsewhere = (0, slice(4, 8), slice(0, 4)), (0, slice(12, 16), slice(8, 12))
    for learn in (True, False):
        labeller = cam(tmp_path / str(learn), 4, features=Erring(), walk_passes=1, learn_location=learn)
        labeller.start()
        labeller.finish()
        found = labeller.load("case_3")["maps"]
        assert found[spot].amax() > 0.8
        assert found[elsewhere].amax() < 0.5 if learn else found[elsewhere].amax() > 0.55


@pytest.mark.parametrize("place", ["round_2", "labels"])
def test_a_resumed_run_without_rounds_ends_as_one_in_a_piece(tmp_path, monkeypatch, place):
    walk, save, count = Walk("blur", 2, SPACING, steps=2), PseudoLabelBank.save, []
    run(cam(tmp_path / "whole", 3, walk=walk))

    def dying(bank, *arguments, **judgement):
        count.extend([1] if bank.folder.name == place else [])
        if len(count) == 2:
            raise KeyboardInterrupt
        return save(bank, *arguments, **judgement)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(PseudoLabelBank, "save", dying)
        run(cam(tmp_path / "parts", 3, walk=walk))
    before = files(tmp_path / "parts")
    assert 0 < len(before) < len(files(tmp_path / "whole"))
    run(cam(tmp_path / "parts", 3, walk=walk, resume=True))
    assert files(tmp_path / "parts") == files(tmp_path / "whole")


def test_several_processes_learn_one_location(tmp_path, monkeypatch):
    """Rank 0 waits at each barrier; here rank 1 works meanwhile."""
    run(cam(tmp_path / "alone", 3))
    labellers, ranks = {}, {0: [], 1: []}

    def steps(rank):
        labeller = labellers[rank]
        yield lambda: labeller.start()
        yield lambda: labeller.renew(2, None)
        yield lambda: labeller.finish()

    for rank in ranks:
        labellers[rank] = cam(tmp_path / "both", 3, resume=True)
        ranks[rank] = list(steps(rank))
    for together in zip(*ranks.values(), strict=True):
        for rank, step in enumerate(together):
            act_as(monkeypatch, rank, 2)
            step()
    assert files(tmp_path / "both") == files(tmp_path / "alone")
