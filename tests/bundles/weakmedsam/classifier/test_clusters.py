from __future__ import annotations

import pytest
import torch

from common.errors import find_input_error
from support.bundle.path import import_bundle

SubClasses = import_bundle("weakmedsam", "classifier.clusters").SubClasses
CENTRES = torch.tensor([[0.0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
SLICES = 40


def cohort(seed: int = 0, cases: int = 3):
    """Slices around four centres. Label 0 is on those of centres 1 and 2, label 1 on all of centre 3 and some of 2."""
    random = torch.Generator().manual_seed(seed)
    features, bits, centres = {}, {}, {}
    for index in range(cases):
        which = torch.randint(0, 4, (SLICES,), generator=random)
        features[f"case_{index}"] = CENTRES[which] + 0.5 * torch.randn(SLICES, 3, generator=random)
        label_1 = (which == 3) | ((which == 2) & (torch.arange(SLICES) % 2 == 0))
        bits[f"case_{index}"] = torch.stack([(which == 1) | (which == 2), label_1])
        centres[f"case_{index}"] = which
    return features, bits, centres


def test_children_are_the_clusters_of_the_positive_slices():
    features, bits, centres = cohort()
    subclasses = SubClasses(2, seed=1).fit(features, bits)
    together = torch.cat(list(centres.values()))
    for case in features:
        child = subclasses.child(case)
        assert child.shape == (SLICES, 5) and child.dtype == torch.float32
        present = bits[case]
        assert torch.equal(child[:, 0].bool(), ~present.any(0))
        for p in range(2):
            assert torch.equal(child[:, 1 + 2 * p : 3 + 2 * p].sum(1).bool(), present[p])
        own = child[present[0], 1:3].argmax(1)  # label 0: its clusters are the centres 1 and 2, the larger one first
        larger = 1 if (together == 1).sum() >= (together == 2).sum() else 2
        assert torch.equal(own == 0, centres[case][present[0]] == larger)
        both = present.all(0)
        assert both.any() and torch.equal(child[both].sum(1), torch.full((int(both.sum()),), 2.0))
    assert all(sizes == sorted(sizes, reverse=True) for sizes in subclasses.sizes)
    assert [sum(sizes) for sizes in subclasses.sizes] == [sum(int(b[p].sum()) for b in bits.values()) for p in range(2)]


def test_one_seed_gives_one_answer_whatever_the_order_of_the_cases():
    features, bits, _ = cohort()
    first = SubClasses(3, seed=4).fit(features, bits)
    turned = SubClasses(3, seed=4).fit(dict(reversed(features.items())), bits)
    assert all(torch.equal(first.child(case), turned.child(case)) for case in features)


def test_the_best_of_several_starts_is_taken():
    features, bits, _ = cohort(cases=4)
    everything = {case: torch.ones(1, SLICES, dtype=torch.bool) for case in bits}
    for seed in range(5):
        found = SubClasses(4, seed=seed).fit(features, everything)
        distance = torch.cdist(found.centroids[0].float(), CENTRES).amin(1)
        assert distance.max() < 0.5  # a single start now and then puts two centroids into one cluster


def test_centroids_are_kept_for_the_same_slices_only(tmp_path, monkeypatch):
    features, bits, _ = cohort()
    first = SubClasses(2, folder=tmp_path).fit(features, bits)
    module = import_bundle("weakmedsam", "classifier.clusters")
    asked = []
    monkeypatch.setattr(module, "kmeans2", lambda *a, **k: asked.append(1) or (_ for _ in ()).throw(RuntimeError))
    again = SubClasses(2, folder=tmp_path).fit(features, bits)
    assert not asked and all(torch.equal(again.child(case), first.child(case)) for case in features)
    for changed in (SubClasses(3, folder=tmp_path), SubClasses(2, seed=1, folder=tmp_path)):
        with pytest.raises(RuntimeError):
            changed.fit(features, bits)
    with pytest.raises(RuntimeError):
        SubClasses(2, folder=tmp_path).fit({case: value + 1 for case, value in features.items()}, bits)
    (tmp_path / "subclasses.safetensors").write_bytes(b"broken")
    with pytest.raises(RuntimeError):
        SubClasses(2, folder=tmp_path).fit(features, bits)


def test_fewer_slices_than_sub_classes_and_labels_that_are_nowhere(recwarn):
    features = {"a": torch.tensor([[0.0, 0], [5, 5], [5, 5], [9, 1]])}
    bits = {"a": torch.tensor([[False, True, True, False], [False] * 4, [False, True, True, True]])}
    subclasses = SubClasses(8).fit(features, bits)
    assert [len(c) for c in subclasses.centroids] == [1, 0, 2] and subclasses.sizes[2][:3] == [2, 1, 0]
    child = subclasses.child("a")
    assert child.shape == (4, 25) and child[:, 0].tolist() == [1, 0, 0, 0]
    assert child[1, 1] == child[1, 17] == 1 and child[3, 18] == 1 and child[:, 9:17].sum() == 0
    assert not [warning for warning in recwarn if "cluster" in str(warning.message)]


def test_one_sub_class_is_the_label_itself():
    features, bits, _ = cohort()
    child = SubClasses(1).fit(features, bits).child("case_0")
    assert torch.equal(child[:, 1:].T.bool(), bits["case_0"])


def test_bad_input_is_said():
    features, bits, _ = cohort()
    wrong = {"case_0": bits["case_0"][:, 1:], "case_1": bits["case_1"]}
    with pytest.raises(ValueError) as error:
        SubClasses(2).fit(features, wrong)
    assert [line[:12] for line in find_input_error(error.value).problems] == ["case case_0:", "case case_2:"]
    with pytest.raises(ValueError, match="no case to cluster"):
        SubClasses(2).fit({}, {})
    with pytest.raises(ValueError, match="was not clustered"):
        SubClasses(2).fit(features, bits).child("other")
    for count in (0, 2.5, True):
        with pytest.raises(ValueError, match="wanted 1"):
            SubClasses(count)
