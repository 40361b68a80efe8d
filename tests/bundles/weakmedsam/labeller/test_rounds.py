"""Rounds of `PseudoLabeller`, its final labels, and how it goes on where it was interrupted."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from support.bundle.path import import_bundle
from support.process.rank import act_as
from support.weakmedsam.fake import SIZE, SPACING, one_hot, presence
from support.weakmedsam.labeller import BOXES, Bright, Walk, dice, files, labeller_module, make, run

PseudoLabelBank = import_bundle("weakmedsam", "common.pseudo_labels.store").PseudoLabelBank

# --- rounds


@pytest.mark.parametrize("bias", [1000.0, -1000.0, 0.0])
@pytest.mark.parametrize("walk", [None, "blur"])
def test_negative_slices_are_exact_background_whatever_the_network_says(tmp_path, bias, walk):
    labeller = make(tmp_path, walk=Walk(walk, 2, SPACING, steps=3))
    labeller.start()
    bits, network = presence(), Bright(bias)
    for number in (1, 2, 3):
        if number > 1:
            labeller.renew(number, network)
        for case in labeller.cases:
            assert labeller.round == number and labeller.target(case)[bits == 0].eq(0).all()
    labeller.finish(network)
    for case in labeller.cases:
        known = labeller.load(case)
        assert known["target"][1:][bits == 0].eq(0).all() and known["maps"][bits == 0].eq(0).all()
        nowhere = (bits == 0).all(0)
        assert known["target"][0][nowhere].eq(1).all() and known["weight"][0][nowhere].eq(1).all()
        assert known["target"].sum(0).eq(1).all() and known["target"].isfinite().all()
        if bias > 0:
            assert known["target"][1:].sum() > 0


def test_rounds_are_nearer_to_the_truth_than_the_box(tmp_path):
    labeller = run(make(tmp_path, threshold=0.5))
    for item in labeller.images:
        prior, target = labeller.make_prior(item), labeller.load(item["case"])["target"]
        for own, label, truth in zip(prior, target[1:], one_hot()[1:], strict=True):
            assert dice(label, truth) > dice(own, truth) + 0.1
    judged = labeller.judgement("case_0")
    assert 0 < judged["agreement"]["1"] < 1 and judged["volume_ml"]["4"] > 0


def test_overlapping_labels_share_slices_but_no_voxel(tmp_path):
    both = BOXES[0], ((0.2, 0.6), (0.2, 0.7), (0.0, 1.0))
    labeller = make(tmp_path, boxes=both, prior="box", rounds=0, count=1)
    labeller.start()
    labeller.finish()
    bits, prior = presence(), labeller.make_prior(labeller.images[0])
    target = labeller.load("case_0")["target"]
    assert target.sum(0).eq(1).all() and target[1:].flatten(1).sum(1).gt(0).all()
    smaller = int((prior > 0.5).flatten(1).sum(1).argmin()) + 1
    for z in (4, 5):  # slices of both
        overlap = (prior[..., z] > 0.55).all(0)
        assert overlap.any() and bits[..., z].eq(1).all()
        assert target[smaller, overlap, z].eq(1).all() and target[3 - smaller, overlap, z].eq(0).all()
    # on the first one's own slices it takes what both would have claimed
    assert dice(target[1, ..., 3], (prior[0, ..., 3] > 0.5).float()) == 1


def test_without_rounds_the_prior_is_walked_and_cut_and_no_network_asked(tmp_path):
    class Halve:
        settings = "halve"

        def edges(self, item):
            return None

        def __call__(self, item, maps, bits, edges=None):
            return maps / 2

    labeller = make(tmp_path, rounds=0, walk=Halve(), ignore_band=0.0)
    labeller.start()
    labeller.finish(None)
    for item in labeller.images:
        known, prior = labeller.load(item["case"]), labeller.make_prior(item)
        assert torch.allclose(known["maps"], prior / 2, atol=2e-3)
        assert known["target"][1:].eq(0).all() and known["weight"].eq(1).all()


def test_the_first_labels_are_the_prior_and_each_later_one_is_walked(tmp_path):
    walked = []

    class Watched:
        settings = "watched"

        def edges(self, item):
            return None

        def __call__(self, item, maps, bits, edges=None):
            walked.append((item["case"], bool(torch.isfinite(maps).all())))
            return maps

    labeller, network = make(tmp_path, walk=Watched()), Bright().train()
    labeller.start()
    assert walked == [] and torch.allclose(
        labeller.target("case_1"), labeller.make_prior(labeller.images[1]), atol=2e-3
    )
    labeller.renew(2, network)
    assert walked == [("case_0", True), ("case_1", True)] and network.calls == 2 and network.training
    labeller.renew(2, network)  # it is there
    assert network.calls == 2
    labeller.finish(network)
    assert network.calls == 6 and len(walked) == 6  # round 3, and the final one


@pytest.mark.parametrize(("learn", "asked"), [(True, ["round_2", "round_3"]), (False, [])])
def test_the_location_is_learnt_from_the_round_before(tmp_path, monkeypatch, learn, asked):
    found, fit = [], labeller_module.LearnedLocation.fit

    def watched(self, cases):
        cases = list(cases)
        for number in (2, 3):
            bank = PseudoLabelBank(next(tmp_path.iterdir()) / f"round_{number}")
            if "case_0" in bank and (bank.load("case_0")["maps"] > 0.5).float().equal(cases[0][2]):
                same = f"round_{number}"
        found.append(same)
        return fit(self, cases)

    monkeypatch.setattr(labeller_module.LearnedLocation, "fit", watched)
    run(make(tmp_path, learn_location=learn, walk=Walk("blur", 2, SPACING, steps=1)))
    assert found == asked


def test_rejected_cases_are_labelled_for_a_look_but_teach_nothing(tmp_path, monkeypatch):
    counts, fit = [], labeller_module.LearnedLocation.fit
    monkeypatch.setattr(
        labeller_module.LearnedLocation, "fit", lambda self, cases: (counts.append(len(c := list(cases))), fit(self, c))
    )
    labeller = run(make(tmp_path, count=3, reject=("case_1",)))
    assert labeller.cases == ["case_0", "case_1", "case_2"] and labeller.selected == ["case_0", "case_2"]
    assert labeller.training_indices() == [0, 2]
    assert counts == [2, 2]
    assert labeller.load("case_1")["target"].shape == (3, *SIZE)


# --- going on


class Dying:
    """Kills the process at the n-th label of a folder."""

    def __init__(self, patch, folder: str, number: int) -> None:
        save, count = PseudoLabelBank.save, []

        def dying(bank, *arguments, **judgement):
            count.extend([1] if bank.folder.name == folder else [])
            if len(count) == number:
                raise KeyboardInterrupt
            return save(bank, *arguments, **judgement)

        patch.setattr(PseudoLabelBank, "save", dying)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("whole")
    run(make(folder, count=3))
    return files(folder)


@pytest.mark.parametrize("place", ["prior", "round_1", "round_2", "round_3", "labels"])
def test_resumed_labels_are_those_of_a_run_in_one_piece(place, whole, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        Dying(patch, place, 2)
        run(make(tmp_path, count=3))
    before = files(tmp_path)
    assert 0 < len(before) < len(whole)
    saved, save = [], PseudoLabelBank.save
    monkeypatch.setattr(PseudoLabelBank, "save", lambda b, c, *a, **k: (saved.append(b.path(c)), save(b, c, *a, **k)))
    run(make(tmp_path, count=3, resume=True))
    assert files(tmp_path) == whole
    assert {str(path.relative_to(tmp_path)) for path in saved} == set(whole) - set(before)


def test_a_resumed_run_enters_round_3_with_the_labels_that_it_had(whole, tmp_path):
    """The network has gone on learning since round 3 began: it must not be asked again."""
    first = make(tmp_path, count=3)
    first.start()
    for number in (2, 3):
        first.renew(number, Bright())
    again, later = make(tmp_path, count=3, resume=True), Bright(bias=2.0)
    again.start()
    assert again.round == 1
    again.renew(3, later)
    assert again.round == 3 and later.calls == 0
    again.finish(Bright())
    assert files(tmp_path) == whole


def test_rounds_that_are_not_there_are_made_with_the_network_as_it_is(tmp_path):
    labeller, network = make(tmp_path, resume=True), Bright()
    labeller.start()
    labeller.renew(3, network)  # as after a resumption with another threshold
    assert labeller.round == 3 and network.calls == 4
    fewer = make(tmp_path, rounds=4)  # than epochs for each
    fewer.start()
    fewer.renew(2, network)
    fewer.finish(network)
    assert fewer.round == 4 and fewer.load("case_1")["target"].shape == (3, *SIZE)


def test_without_resume_everything_goes_and_is_made_anew(tmp_path):
    run(make(tmp_path))
    before = set(files(tmp_path))
    labeller = make(tmp_path)
    labeller.start()
    assert {name.split("/")[1] for name in files(tmp_path)} == {"prior", "round_1"}
    run(labeller)
    assert set(files(tmp_path)) == before


def test_another_runs_labels_are_not_gone_on_with(tmp_path):
    run(make(tmp_path))
    kept = files(tmp_path)
    changes = [
        {"threshold": "auto"},
        {"prior": "centre"},
        {"boxes": (BOXES[1], BOXES[0])},
        {"sizes": (1.0, 2.0), "threshold": "auto"},
        {"ignore_band": 0.1},
        {"learn_location": False},
        {"walk_passes": 2},
        {"sharing": "union"},
        {"rounds": 2},
        {"walk": Walk("blur", 2, SPACING)},
    ]
    for change in changes:
        network = Bright()
        run(make(tmp_path, resume=True, **change), network)
        assert network.calls > 0, change
    assert len({name.split("/")[0] for name in files(tmp_path)}) == len(changes) + 1
    assert {name: content for name, content in files(tmp_path).items() if name in kept} == kept
    network = Bright()
    run(make(tmp_path, resume=True), network)
    assert network.calls == 0


def test_several_processes_share_the_cases(tmp_path, monkeypatch):
    for rank in (0, 1):
        act_as(monkeypatch, rank, 2)
        labeller = make(tmp_path, count=3, rounds=0, resume=True)  # so that the second one keeps the first one's
        labeller.start()
        labeller.finish()
        found = {name.rsplit("/", 1)[1] for name in files(tmp_path) if "/labels/" in name}
        assert len(found) == (2 if rank == 0 else 3)


def test_beyond_the_scan_no_label_is_and_nothing_is_learnt(tmp_path):
    """The grid goes on behind slice 6 of 10 and beside row 11 of 16; structures touch both ends."""
    walk = Walk("intensity", 2, SPACING)
    labeller = make(tmp_path, walk=walk, ignore_band=0.0)
    inside = torch.zeros(1, *SIZE)
    inside[:, :12, :, :7] = 1
    for item in labeller.images:
        item["image"].meta["spatial_shape"] = np.array([12, SIZE[1], 7])
        item["presence"] = item["presence"] * inside.amax((1, 2), keepdim=True)
    run(labeller)
    for case in labeller.cases:
        kept = labeller.load(case)
        assert torch.equal(kept["weight"], inside)
        assert (kept["target"][1:] * (1 - inside)).max() == 0 and (kept["maps"] * (1 - inside)).max() == 0
        assert kept["target"][1:, ..., 6].sum() > 0
        volumes = kept["target"][1:].sum((1, 2, 3)) * 12 / 1000
        assert list(labeller.judgement(case)["volume_ml"].values()) == pytest.approx(volumes.tolist())


def test_what_looks_alike_far_from_a_labels_box_is_not_learnt(tmp_path):
    near = ((0.1, 0.3), (0.1, 0.4), (0.0, 1.0)), ((0.5, 0.9), (0.4, 1.0), (0.0, 1.0))
    labeller = run(make(tmp_path, boxes=near, prior="box"), Bright(bias=5.0))  # all of a scan looks right to it
    first = labeller.load("case_0")["target"][1]
    assert first.any() and not first[7:].any() and not first[:, 8:].any()  # 16 x 12 voxels: .4 and .55 of the sides
