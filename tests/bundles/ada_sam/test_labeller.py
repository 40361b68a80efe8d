"""Pseudo labels: the network's own masks, and the true ones where somebody drew them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from monai.data import MetaTensor

from common.grid.grid import Grid, Level
from support.ada_sam.structures import LABELS, SIZE, SeeingNetwork, dice, embeddings_of, label_map, one_hot, structures
from support.bundle.path import import_bundle
from support.data.shorter_scan import shorter_scan

labeller_module = import_bundle("ada_sam", "labeller")
VolumeInference = import_bundle("ada_sam", "volume.volume_inference").VolumeInference
InputError = import_bundle("ada_sam", "common.errors").InputError


class Second:
    """A second teacher that has everything but the first structure, with the gate it is given."""

    def __init__(self, share: float = 0.25, by_label: bool = False) -> None:
        self.share, self.by_label, self.network = share, by_label, torch.nn.Linear(1, 1)

    def probabilities(self, case: str, gate: torch.Tensor, slice_axis: int) -> torch.Tensor:
        assert gate.equal(GATE) and slice_axis == 2
        found = one_hot(structures()).clone()
        found[0] += found[1]
        found[1] = 0
        return found


DRAWN = (3, 5)  # slices of case_0 with a mask
GATE = structures().flatten(1, 2).any(1)


class Features:
    """What the network sees: the truth, but for half of the first structure in slices 4 and 5."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embedding(self, case: str) -> torch.Tensor:
        self.asked.append(case)
        seen = embeddings_of(structures())
        seen[4:6, 0, 5:] = 0.0
        return seen


def images(count: int = 2) -> list[dict]:
    found = structures()
    presence = found.flatten(1, 2).any(1).float()[:, None, None].expand(-1, *SIZE).clone()
    items = []
    for number in range(count):
        annotated, label = torch.zeros(1, *SIZE), torch.zeros(1, *SIZE)
        if number == 0:
            for z in DRAWN:
                annotated[..., z], label[0, ..., z] = 1.0, label_map(found)[..., z].float()
        tensors = {"image": torch.rand(1, *SIZE), "presence": presence, "label": label, "annotated": annotated}
        items.append({"case": f"case_{number}", **{name: MetaTensor(value) for name, value in tensors.items()}})
    return items


def make(folder, network=None, features=None, given=None, inference=None, coarse=None, fine=None, **settings):
    network = network or SeeingNetwork()
    own = Grid(SIZE, (2.0, 2.0, 3.0), tuple(LABELS))
    grid = replace(own, fine=fine) if coarse is None else Grid((5, 5, 10), (4.0, 4.0, 3.0), tuple(LABELS), fine=fine)
    cohort = SimpleNamespace(
        labels=LABELS, grid=grid, slice_grid=own, slice_axis=2, label_slices={"case_0": list(DRAWN)}
    )
    given = given or images()
    inference = {"smooth": 0.0, "propagate": False, "cam_sigma": 0.0, "box_median": 1, **(inference or {})}
    return labeller_module.PseudoLabeller(
        cohort,
        coarse or given,
        given,
        features or Features(),
        network,
        VolumeInference(network, 2, **inference),
        str(folder),
        **settings,
    )


def test_true_masks_take_the_place_of_answers_on_their_slices_alone(tmp_path):
    labeller = make(tmp_path)
    bank = labeller.run()
    truth, drawn, plain = one_hot(structures()), labeller.load("case_0"), labeller.load("case_1")
    assert drawn["target"].shape == (3, *SIZE) and drawn["weight"].shape == (1, *SIZE)
    for z in DRAWN:
        assert drawn["target"][..., z].equal(truth[..., z])
    hard = plain["target"].argmax(0)
    assert not hard[..., 5].equal(truth.argmax(0)[..., 5]) and hard[..., 7].equal(truth.argmax(0)[..., 7])
    assert drawn["target"][..., 4].equal(plain["target"][..., 4])
    assert torch.allclose(plain["target"].sum(0), torch.ones(()), atol=2e-3)  # half precision
    assert "case_0" in bank and labeller.cases == ["case_0", "case_1"] and labeller.training_indices() == [0, 1]


def test_slices_without_a_class_are_exact_background_by_their_bits(tmp_path):
    given = images()
    given[1]["presence"][0, ..., 6:] = 0.0  # a person says that it ends here
    labeller = make(tmp_path, given=given)
    labeller.run()
    target = labeller.load("case_1")["target"]
    assert not target[1, ..., 6:].any() and target[1, ..., 4].any() and (target[0, ..., 9] == 1).all()
    assert labeller.judgement("case_1")["presence"] == {"1": pytest.approx(0.8), "4": 1.0}


def test_the_mask_counts_even_where_it_and_the_bits_differ(tmp_path):
    given = images(1)
    given[0]["presence"][0, ..., 3] = 0.0
    labeller = make(tmp_path, given=given)
    labeller.run()
    assert (labeller.load("case_0")["target"][1, ..., 3] == 1).any()


def test_weights(tmp_path):
    labeller = make(tmp_path / "a", mask_weight=3)
    labeller.run()
    weight = labeller.load("case_0")["weight"][0]
    assert all((weight[..., z] == 3).all() for z in DRAWN)
    assert (weight[..., 0] == 1).all() and (weight[..., 9] == 1).all()  # nothing there: surely so
    assert 0 < float(weight[0, 0, 4]) < 1 and float(weight[..., 4].std()) == 0
    answer = labeller.inference(Features().embedding(""), SIZE, structures().flatten(1, 2).any(1))
    assert float(weight[0, 0, 4]) == pytest.approx(float(answer.confidence[:, 4].mean()), abs=1e-3)
    assert float(weight[0, 0, 2]) == pytest.approx(float(answer.confidence[0, 2]), abs=1e-3)  # of its class alone
    even = make(tmp_path / "b", weight="0.5")
    even.run()
    weight = even.load("case_0")["weight"][0]
    assert (weight[..., 4] == 0.5).all() and (weight[..., 9] == 0.5).all() and (weight[..., 3] == 1).all()


def test_a_second_teacher_has_its_share_but_not_where_a_mask_is(tmp_path):
    alone, both = make(tmp_path / "a"), make(tmp_path / "b", second=Second())
    alone.run()
    both.run()
    for case in ("case_0", "case_1"):
        wanted = torch.lerp(alone.load(case)["target"], Second().probabilities(case, GATE, 2), 0.25)
        if case == "case_0":
            wanted[..., list(DRAWN)] = one_hot(structures())[..., list(DRAWN)]
        torch.testing.assert_close(both.load(case)["target"], wanted, atol=2e-3, rtol=0)
        assert both.load(case)["weight"].equal(alone.load(case)["weight"])
    assert both.judgement("case_1")["teachers"] == {"1": 0.0, "4": 1.0}
    assert both.rows()[1]["lowest agreement of teachers"] == 0 and "teachers" not in alone.judgement("case_1")
    assert make(tmp_path, second=Second(0.0)).second is None


def test_a_label_that_a_teacher_has_not_learnt_is_left_to_the_other(tmp_path, capsys):
    labeller = make(tmp_path, second=Second(0.9, by_label=True))
    labeller.run()
    # both have all of the second structure; the second teacher has none of the first one
    assert labeller.shares[1] == 0 and float(labeller.shares[2]) == pytest.approx(0.9, abs=0.02)
    assert "front 0.00, back 0.9" in capsys.readouterr().out
    hard = labeller.load("case_1")["target"].argmax(0)
    assert dice(hard[..., :4] == 1, structures()[0, ..., :4]) == 1
    fixed = make(tmp_path / "fixed", second=Second(0.9))
    fixed.run()
    assert not (fixed.load("case_1")["target"].argmax(0) == 1).any()
    assert torch.allclose(labeller.load("case_1")["target"].sum(0), torch.ones(()), atol=2e-3)


def test_what_is_judged(tmp_path):
    labeller = make(tmp_path)
    labeller.run()
    drawn, plain = (labeller.judgement(case) for case in ("case_0", "case_1"))
    assert drawn["annotated"] == 2 and plain["annotated"] == 0
    # before the mask takes its place: slice 3 is right, half of slice 5 is missing
    assert 0.6 < drawn["agreement"]["1"] < 0.9 and drawn["agreement"]["4"] == 1.0
    assert plain["agreement"] == {"1": None, "4": None}
    target = labeller.load("case_0")["target"].argmax(0)
    assert drawn["volume_ml"]["1"] == pytest.approx(int((target == 1).sum()) * 0.012)
    assert sum(drawn["area_mm2"]["4"]) * 3 / 1000 == pytest.approx(drawn["volume_ml"]["4"])
    assert drawn["presence"] == {"1": 1.0, "4": 1.0} and 0 < drawn["confidence"]["1"] <= 1
    assert "jump" in plain["flags"]["1"] and plain["jump_slices"]["1"] == [jump + 1 for jump in plain["jumps"]["1"]]
    rows = labeller.rows()
    assert [row["case"] for row in rows] == labeller.cases
    assert rows[0]["slices with masks"] == 2 and rows[1]["lowest agreement with masks"] == "-"
    assert rows[0]["lowest agreement with masks"] == drawn["agreement"]["1"]
    assert rows[0]["front (ml)"] == drawn["volume_ml"]["1"]


def test_a_slice_is_counted_as_its_file_counts_it():
    image = MetaTensor(torch.zeros(1, *SIZE), affine=torch.eye(4, dtype=torch.float64))
    assert labeller_module.stored_slice(image, 2, 4) == 5  # of the grid, where no file is known
    downwards = torch.diag(torch.tensor([1.0, 1.0, -1.0, 1.0]))
    downwards[2, 3] = SIZE[2] - 1
    image.meta |= {"original_affine": downwards.numpy(), "spatial_shape": SIZE}
    assert labeller_module.stored_slice(image, 2, 4) == SIZE[2] - 4


def test_a_resumed_run_makes_what_is_missing_and_no_more(tmp_path):
    labeller = make(tmp_path)
    bank = labeller.run()
    kept = bank.path("case_0").read_bytes()
    bank.path("case_1").unlink()
    features = Features()
    again = make(tmp_path, features=features, resume=True)
    again.run()
    assert features.asked == ["case_1"] and bank.path("case_0").read_bytes() == kept and "case_1" in bank
    features = Features()
    make(tmp_path, features=features).run()
    assert features.asked == ["case_0", "case_1"]


@pytest.mark.parametrize("change", ["weights", "mask_weight", "inference", "second", "share", "second's weights"])
def test_labels_of_other_weights_or_settings_are_not_gone_on_with(tmp_path, change):
    torch.manual_seed(0)
    make(tmp_path, second=Second() if change in ("share", "second's weights") else None).run()
    network, features = SeeingNetwork(), Features()
    if change == "weights":
        torch.nn.init.constant_(network.scale, 2.0)
    settings = {"mask_weight": 2.0} if change == "mask_weight" else {}
    inference = {"passes": 3} if change == "inference" else None
    second = {"second": Second(), "share": Second(0.5), "second's weights": Second()}.get(change)
    make(tmp_path, network, features, inference=inference, second=second, resume=True, **settings).run()
    assert features.asked == ["case_0", "case_1"]


def test_a_fresh_run_leaves_nothing_of_an_earlier_one(tmp_path):
    make(tmp_path, mask_weight=2).run()
    make(tmp_path).run()
    assert len(list(tmp_path.rglob("*.safetensors"))) == 2


def test_nothing_before_the_run(tmp_path):
    with pytest.raises(RuntimeError, match="run comes first"):
        make(tmp_path).load("case_0")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"weight": "entropy"}, "weight is 'entropy'; wanted a number of 0 or more, or 'confidence'"),
        ({"weight": -1}, "weight is -1"),
        ({"mask_weight": -0.5}, "mask_weight is -0.5; wanted a number of 0 or more"),
        ({"mask_weight": float("nan")}, "mask_weight is nan"),
    ],
)
def test_weights_that_cannot_be(tmp_path, settings, words):
    with pytest.raises(InputError) as error:
        make(tmp_path, **settings)
    assert words in str(error.value)


def test_beyond_the_scan_nothing_is_labelled_counted_or_learnt(tmp_path):
    """Slices 7 to 9 repeat slice 6, the scan's last, which holds both structures."""
    given = images(1)
    seen = embeddings_of(structures())
    seen[7:] = seen[6]
    given[0]["image"] = shorter_scan(torch.rand(1, *SIZE), 0, 7)
    given[0]["presence"] = given[0]["presence"].clone()
    given[0]["presence"][..., 7:] = 0
    labeller = make(tmp_path, given=given, features=SimpleNamespace(embedding=lambda case: seen))
    labeller.run()
    kept, judged = labeller.load("case_0"), labeller.judgement("case_0")
    assert kept["target"][..., 7:].max() == 0 and kept["weight"][..., 7:].max() == 0
    assert kept["target"][1:, ..., 6].amax((1, 2)).min() > 0.5
    counted = (kept["target"].argmax(0) == 1).sum((0, 1))[:7] * 4.0  # mm2
    assert judged["area_mm2"]["1"] == counted.tolist() and judged["presence"] == {"1": 1.0, "4": 1.0}
    assert judged["volume_ml"]["1"] == pytest.approx(float(counted.sum()) * 3 / 1000)


def test_labels_are_kept_on_the_common_grid_and_as_fine_as_they_were_made_where_there_is_a_second_level(tmp_path):
    given = images()
    for item in given:
        item["image"].affine = torch.diag(torch.tensor([2.0, 2.0, 3.0, 1.0]))
    affine = torch.diag(torch.tensor([4.0, 4.0, 3.0, 1.0]))
    affine[:2, 3] = 1.0  # a voxel of it is two by two of the slices'
    size = (SIZE[0] // 2, SIZE[1] // 2, SIZE[2])
    coarse = [{"case": item["case"], "image": MetaTensor(torch.rand(1, *size), affine=affine)} for item in given]
    alone = make(tmp_path / "a", given=given)
    alone.run()
    labeller = make(tmp_path / "b", given=given, coarse=coarse, fine=Level((4, 4, 4), (1.0, 1.0, 3.0)))
    labeller.run()
    for case in labeller.cases:
        found, own = labeller.load(case), alone.load(case)
        assert found["target"].shape == (3, *size) and found["weight"].shape == (1, *size)
        mean = torch.nn.functional.avg_pool3d(own["target"][None], (2, 2, 1))[0]
        assert float((found["target"] - mean).abs().mean()) < 0.03
        assert torch.allclose(found["target"].sum(0), torch.ones(()), atol=2e-3)
        assert torch.allclose(found["weight"].amax((0, 1, 2)), own["weight"].amax((0, 1, 2)), atol=2e-3)
        target, image = labeller.on_slices(case)
        assert target.equal(own["target"]) and image is given[labeller.cases.index(case)]["image"]
        assert labeller.judgement(case) == alone.judgement(case)
