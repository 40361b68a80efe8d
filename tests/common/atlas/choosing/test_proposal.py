from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
import torch

from common.atlas.choosing.choice import split_ids, tell_reach
from common.atlas.choosing.proposal import (
    CLOSE,
    QUICK,
    choose_medoids,
    compare,
    draw_targets,
    mean_reach,
    pairs_to_compare,
    pairs_to_propose,
    propose,
    rank_pairs,
)
from common.atlas.choosing.reach import Reached, ScanReach
from common.atlas.reached import reaches, tell_reached
from common.errors import InputError

SIZE = (24, 24, 16)
ODD = "e_odd"


def ball(radius: float, noise: int) -> torch.Tensor:
    axes = torch.meshgrid(*(torch.arange(n) - (n - 1) / 2 for n in SIZE), indexing="ij")
    far = sum((axis / r) ** 2 for axis, r in zip(axes, (radius, radius, 0.7 * radius), strict=True)).sqrt()
    inner = ((axes[0] - 0.3 * radius) ** 2 + axes[1] ** 2 + axes[2] ** 2).sqrt() < 0.3 * radius
    image = 0.2 + 0.4 * torch.sigmoid(8 * (1 - far)) + 0.3 * inner
    return (image + 0.01 * torch.randn(SIZE, generator=torch.Generator().manual_seed(noise)))[None]


@pytest.fixture(scope="module")
def scans():
    """Four scans of much the same, and one of other proportions."""
    items = [{"case": f"{name}_scan", "image": ball(7 + 0.3 * n, n)} for n, name in enumerate("abcd")]
    items.append(
        {
            "case": ODD,
            "image": ball(3.2, 9).flip(1) * 0.5
            + 0.4 * torch.rand(1, *SIZE, generator=torch.Generator().manual_seed(9)),
        }
    )
    return ScanReach(items, steps=10)


def test_the_scan_that_is_unlike_the_others_is_proposed_last(scans):
    found = propose(scans, list(scans.index))
    assert len(found.chosen) == 1 and found.chosen[0] != ODD
    assert next(iter(found.reach)) == found.chosen[0] and list(found.reach)[-1] == ODD
    assert all(0 <= value <= 1 for value in found.reach.values())
    assert found.found[ODD].local < found.found[found.chosen[0]].local


def test_a_proposal_follows_from_the_images_alone(scans):
    again = propose(ScanReach(list(reversed(scans.images)), steps=10), sorted(scans.index, reverse=True))
    first = propose(scans, list(scans.index))
    assert again.chosen == first.chosen and again.reach == pytest.approx(first.reach)


def test_a_pair_is_registered_once_and_progress_sees_each(scans, monkeypatch):
    seen = []
    propose(scans, list(scans.index), follow=lambda work: (seen.append(len(work)), work)[1])
    monkeypatch.setattr("common.atlas.choosing.reach.register_affine", lambda *a, **k: pytest.fail("registered again"))
    propose(scans, list(scans.index), follow=lambda work: (seen.append(len(work)), work)[1])
    assert seen == [25, 25]


def test_many_candidates_are_looked_at_quickly_first():
    asked = []

    class Fake:
        index: ClassVar = {f"c{n:02d}": n for n in range(40)}
        device = "cpu"

        def reach(self, moving, fixed, deform):
            asked.append(deform)
            good = -abs(self.index[moving] - 7)
            return Reached(good, good if deform else None, -good, -good if deform else None)

    found = propose(Fake(), list(Fake.index))
    assert found.chosen == ["c07"] and len(found.reach) == 8
    assert asked.count(False) <= 40 * 4 and asked.count(True) <= 8 * 8


def test_one_that_is_named_is_told_to_be_unlike_the_others(scans, capsys):
    share, reach = compare(scans, ODD)
    assert share == 0 and set(reach) == set(scans.index)
    tell_reach(scans.images, [ODD])
    said = capsys.readouterr().out
    assert f"warning: atlas {ODD}: its image reaches other scans better than 0% of 4" in said
    assert "this atlas is unlike the other scans; expect worse labels than from" in said
    tell_reach(scans.images, [next(iter(reach))])
    assert "warning" not in capsys.readouterr().out


def test_ranks_leave_out_a_scan_itself_and_one_outlier_decides_nothing():
    pairs = [
        [None, Reached(0.9, 0.9, 0.0, 0.0), Reached(-1.0, 0.1, 9.0, 9.0)],
        [Reached(0.8, 0.8, 0.1, 0.1), None, Reached(0.9, 0.9, 0.0, 0.0)],
        [Reached(0.7, 0.7, 0.2, 0.2), Reached(0.1, 0.1, 1.0, 1.0), None],
    ]
    for by in (QUICK, CLOSE):
        ranks = rank_pairs(pairs, by)
        assert np.isnan(ranks.diagonal()).all()
        np.testing.assert_allclose(ranks[:, 1], [1, np.nan, 0])
        np.testing.assert_allclose(mean_reach(ranks), [0.5, 1.0, 0.0])


def test_several_reach_each_a_part():
    reach = np.array([[0.9, 0.9, 0.1, 0.1], [0.1, 0.1, 0.8, 0.9], [0.6, 0.6, 0.5, 0.5], [0.8, 0.8, 0.2, 0.2]])
    assert choose_medoids(reach, 1) == [2]
    assert sorted(choose_medoids(reach, 2)) == [0, 1]  # by exchange: the best single one is not one of the best two
    assert len(set(choose_medoids(reach, 4))) == 4


def test_targets_depend_on_the_ids_alone():
    ids = [f"case_{n}" for n in range(30)]
    assert draw_targets(ids, 8) == draw_targets(list(reversed(ids)), 8) and len(set(draw_targets(ids, 8))) == 8
    assert sorted(draw_targets(ids[:3], 8)) == ids[:3]


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (None, []), ("None", []), ("a", ["a"]), (12, ["12"]), ("a, b", ["a", "b"]), (["a", 12], ["a", "12"]),
        ("all", ["a", "b", "12", "x,y"]), ("x,y", ["x,y"]), ("z", ["z"]),
    ],
)  # fmt: skip
def test_how_atlases_are_named(given, wanted):
    assert split_ids(given, ["a", "b", "12", "x,y"]) == wanted


def test_a_case_may_be_called_all():
    assert split_ids("all", ["all", "a"]) == ["all"]


def test_nearly_none_reached_ends_the_run_unless_forced(capsys):
    names = {0: "background", 1: "liver", 2: "gland"}
    judged = {f"c{n}": {"1": 0.3, "2": 0.1} for n in range(20)} | {"good": {"1": 0.8, "2": 0.2}}
    with pytest.raises(InputError, match=r"atlas A: of 21 scans labels reach .*: liver 1, gland 0; .*--force true"):
        tell_reached(judged, names, ["A"])
    tell_reached(judged, names, ["A"], force=True)
    assert capsys.readouterr().out.startswith("warning: atlas A: of 21 scans labels reach")
    # a label that is not found anywhere ends nothing as long as another one is
    tell_reached({f"c{n}": {"1": 0.6, "2": 0.0} for n in range(3)}, names, ["A", "B"])
    said = capsys.readouterr().out
    assert said.startswith("2 atlases: of 3 scans labels reach") and said.endswith("liver 3, gland 0\n")
    assert reaches({"1": 0.6, "2": 0.0}) and not reaches({"1": 0.4}) and not reaches({})


def test_pairs_that_are_registered_are_counted_before():
    """Twelve scans, all candidates: four of each by an affine, then eight to eight; to itself none is registered."""
    images, counted = [{"case": str(number)} for number in range(12)], []

    class Counted:
        def __init__(self):
            self.images, self.channel, self.device = images, None, "cpu"
            self.index = {item["case"]: number for number, item in enumerate(images)}

        def reach(self, moving, fixed, deform):
            counted.append((moving, fixed, deform))
            return Reached(0.5, 0.5, 0.1, 0.1)

    propose(Counted(), [item["case"] for item in images])
    assert abs(len(counted) - pairs_to_propose(12, 12)) <= 8  # the exact number hangs on who is drawn
    counted.clear()
    compare(Counted(), "3")
    assert abs(len(counted) - pairs_to_compare(12)) <= 8
