from __future__ import annotations

import json
from dataclasses import replace

import nibabel
import numpy as np
import pytest

from common.cohorts.few_labels import FewLabelCohort
from common.data.datalist import Datalist
from common.errors import find_input_error
from common.grid.grid import Grid

SIZE = (24, 24, 16)


@pytest.fixture
def folder(tmp_path):
    """Six training cases, the last without a label, one unlabeled, one validation and one test case."""
    random = np.random.default_rng(0)
    label = np.zeros(SIZE, np.uint8)
    label[6:18, 5:15, 4:12] = 1
    for index in range(9):
        voxels = 0.5 * label + 0.05 * random.standard_normal(SIZE)
        for name, array in (("image", voxels.astype(np.float32)), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}_{index}.nii.gz")
    entries = [{"image": f"image_{i}.nii.gz", "label": f"label_{i}.nii.gz"} for i in range(9)]
    content = {
        "name": "tiny",
        "labels": {"0": "background", "1": "body"},
        "training": [*entries[:5], {"image": "image_5.nii.gz"}],
        "unlabeled": [{"image": "image_6.nii.gz"}],
        "validation": [entries[7]],
        "test": [entries[8]],
    }
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    return tmp_path


def test_only_the_chosen_labels_are_opened_and_the_rest_is_stripped(folder):
    for index in (0, 2, 4):
        (folder / f"label_{index}.nii.gz").write_bytes(b"never opened")
    cohort = FewLabelCohort(str(folder), num_labeled=4, labeled=["image_3", "image_1"])
    assert {case["case"] for case in cohort.labeled} == {"image_1", "image_3"}
    assert all(set(case) == {"case", "image", "label"} for case in cohort.labeled)
    assert len(cohort.unlabeled) == 5 and all(set(case) == {"case", "image"} for case in cohort.unlabeled)
    assert cohort.cases == cohort.labeled + cohort.unlabeled
    assert [case["case"] for case in cohort.scored] == ["image_8"]
    assert [case["case"] for case in cohort.images] == [case["case"] for case in cohort.cases]
    assert all(set(case) == {"case", "image"} for case in cohort.images)
    assert cohort.choose_atlases([], folder) == cohort.labeled
    assert replace(cohort.grid, strides=None) == Grid(SIZE, (1.0, 1.0, 1.0), (0, 1))


def test_draw_is_seeded_and_null_is_everything(folder):
    def drawn(**options):
        return [case["case"] for case in FewLabelCohort(str(folder), **options).labeled]

    assert drawn(num_labeled=2, seed=3) == drawn(num_labeled=2, seed=3)
    assert len({tuple(sorted(drawn(num_labeled=2, seed=seed))) for seed in range(6)}) > 1
    assert len(drawn()) == 5 == len(drawn(num_labeled="null", labeled="null"))
    assert drawn(labeled="image_2") == ["image_2"]


def test_a_wrong_choice_and_an_empty_mask_are_said(folder):
    for options, words in (({"num_labeled": 9}, "1 to 5"), ({"labeled": ["image_5"]}, "has no label")):
        with pytest.raises(ValueError) as error:
            FewLabelCohort(str(folder), **options)
        assert words in "\n".join(find_input_error(error.value).problems)
    empty = nibabel.Nifti1Image(np.zeros(SIZE, np.uint8), np.eye(4))
    nibabel.save(empty, folder / "label_1.nii.gz")
    FewLabelCohort(str(folder), labeled=["image_0"]).check()
    with pytest.raises(ValueError, match=r"label_1\.nii\.gz.*learnt from"):
        FewLabelCohort(str(folder), labeled=["image_0", "image_1"]).check()


def test_validation_is_scored_where_there_is_no_test_label(folder):
    content = json.loads((folder / "dataset.json").read_text())
    content["test"] = [content["test"][0]["image"]]
    (folder / "dataset.json").write_text(json.dumps(content))
    assert [case["case"] for case in FewLabelCohort(str(folder), num_labeled=1).scored] == ["image_7"]


def test_a_site_of_a_federation_takes_as_many_labels_as_it_has_or_none(folder):
    assert len(FewLabelCohort(str(folder), num_labeled=9, federated=True).labeled) == 5
    assert len(FewLabelCohort(str(folder), num_labeled=2, federated=True).labeled) == 2
    for index in range(5):
        (folder / f"label_{index}.nii.gz").write_bytes(b"never opened")
    cohort = FewLabelCohort(str(folder), num_labeled=0, federated=True)
    assert cohort.labeled == [] and len(cohort.unlabeled) == 7
    assert all(set(case) == {"case", "image"} for case in cohort.cases)
    content = json.loads((folder / "dataset.json").read_text())
    content["training"] = [{"image": case["image"]} for case in content["training"]]
    (folder / "dataset.json").write_text(json.dumps(content))
    assert FewLabelCohort(str(folder), num_labeled=4, federated=True).labeled == []
    for wrong in ({"num_labeled": 0}, {"num_labeled": 4}, {"num_labeled": None}):  # elsewhere it stays an error
        with pytest.raises(Exception) as error:
            FewLabelCohort(str(folder), **wrong)
        assert "has a label; wanted at least one" in find_input_error(error.value).problems[0]


def test_all_labels_that_a_client_gives_count(folder):
    given = FewLabelCohort(str(folder)).content
    assert isinstance(given, Datalist)
    assert len(FewLabelCohort(None, given, num_labeled=2).labeled) == 5
    assert len(FewLabelCohort(None, given, num_labeled=2, labeled="image_2").labeled) == 1


def test_known_labels_go_along_with_a_label_and_the_plan_counts_them(folder):
    content = json.loads((folder / "dataset.json").read_text())
    content["labels"] |= {"2": "core", "3": "rim"}
    content["training"][0]["known_labels"] = [1]
    content["test"][0]["known_labels"] = [1]
    for case in content["training"][1:5]:
        case["known_labels"] = [1, 2]
    (folder / "dataset.json").write_text(json.dumps(content))
    cohort = FewLabelCohort(str(folder))
    assert cohort.partial and {tuple(case["known_labels"]) for case in cohort.labeled} == {(1,), (1, 2)}
    assert all(set(case) == {"case", "image"} for case in cohort.unlabeled)
    assert cohort.scored[0]["known_labels"] == [1] and cohort.whole_cases[:5] == cohort.labeled
    cohort.check()
    said = "known_labels: 5 of 5 labels tell about some structures alone: body 5, core 4, rim 0"
    assert cohort.describe_plan()[-2:] == [said, "warning: no label tells about rim: never learnt"]
    del content["training"][0]["known_labels"]
    (folder / "dataset.json").write_text(json.dumps(content))
    assert "labels tell" not in "".join(FewLabelCohort(str(folder), labeled=["image_0"]).describe_partial())


def test_few_stand_for_all_in_a_dry_run(folder):
    """Three labelled ones, four others, one to score; of these two, three and that."""
    cohort = FewLabelCohort(str(folder), num_labeled=3)
    labeled, lists = [case["case"] for case in cohort.labeled], (cohort.cases, cohort.images, cohort.scored)
    said = cohort.describe_opened()
    grid = cohort.grid
    stands_for = cohort.narrow(3, 2, 2)
    assert [case["case"] for case in cohort.labeled] == labeled[:2] and cohort.labeled_indices() == [0, 1]
    assert [stands_for[case] for case in labeled[:2]] == [1.5, 1.5]
    others = [case["case"] for case in cohort.unlabeled]
    assert len(others) == 3 and all(stands_for[case] == pytest.approx(4 / 3) for case in others)
    assert sum(stands_for.values()) == pytest.approx(3 + 4 + 1) and stands_for["image_8"] == 1
    assert (cohort.cases, cohort.images, cohort.scored) == lists  # the same lists, which others hold
    assert [case["case"] for case in cohort.cases] == [*labeled[:2], *others] and cohort.grid is grid
    assert [len(one) for one in lists] == [5, 5, 1]
    assert said == [
        "images of 7 training cases",
        f"labels of {', '.join(labeled)}",
        "image and label of 1 cases to score",
    ]
