from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
import torch

from support.bundle.path import import_bundle

cohort_module = import_bundle("rrl_medsam", "cohort")

SIZE = (24, 24, 16)


def phantom() -> np.ndarray:
    label = np.zeros(SIZE, np.uint8)
    label[5:19, 6:18, 4:12] = 1
    label[9:15, 9:15, 6:10] = 2
    return label


def write_cohort(folder, cases=4):
    random = np.random.default_rng(0)
    label = phantom()
    for index in range(cases):
        noise = 0.3 if index == 0 else 0.02 * index
        voxels = 0.5 * label + noise * random.standard_normal(SIZE)
        for name, array in (("image", voxels.astype(np.float32)), ("label", label)):
            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / f"{name}_{index}.nii.gz")
    entries = [{"image": f"image_{i}.nii.gz", "label": f"label_{i}.nii.gz"} for i in range(cases)]
    content = {
        "name": "tiny",
        "labels": {"0": "background", "1": "body", "2": "core"},
        "training": entries[:-1],
        "test": entries[-1:],
    }
    (folder / "dataset.json").write_text(json.dumps(content))


def test_cohort_opens_no_training_label_but_the_atlass(tmp_path):
    write_cohort(tmp_path)
    (tmp_path / "label_0.nii.gz").write_bytes(b"never opened")
    (tmp_path / "label_2.nii.gz").write_bytes(b"never opened")
    cohort = cohort_module.OneShotCohort(str(tmp_path), atlas="image_1", max_voxels=2000)
    assert [atlas["case"] for atlas in cohort.atlases] == ["image_1"] and cohort.atlases[0]["label"].endswith(
        "label_1.nii.gz"
    )
    assert [sorted(case) for case in cohort.images] == [["case", "image"]] * 3
    assert cohort.grid.label_values == (0, 1, 2) and [case["case"] for case in cohort.scored] == ["image_3"]


def seen_by_the_network(levels=(0.5, 0.3, 0.02)):
    random = torch.Generator().manual_seed(0)
    image = 0.5 * torch.from_numpy(phantom())[None]
    return [
        {"case": f"image_{i}", "image": image + level * torch.randn(image.shape, generator=random)}
        for i, level in enumerate(levels)
    ]


def test_cohort_takes_the_label_that_reaches_the_others_best_and_keeps_the_choice(tmp_path, capsys, monkeypatch):
    write_cohort(tmp_path)
    cohort = cohort_module.OneShotCohort(str(tmp_path))
    (tmp_path / "labels").mkdir()
    chosen = cohort.choose_atlases(seen_by_the_network(), tmp_path / "labels")
    assert len(chosen) == 1 and chosen == cohort.atlases and chosen[0]["label"].endswith(".nii.gz")
    assert capsys.readouterr().out.count(f"atlas: {chosen[0]['case']}: of 3 labelled training cases it reaches") == 1
    again = cohort_module.OneShotCohort(str(tmp_path))
    monkeypatch.setattr("common.atlas.choosing.reach.register_affine", lambda *a, **k: pytest.fail("registered again"))
    assert again.choose_atlases(seen_by_the_network(), tmp_path / "labels")[0]["case"] == chosen[0]["case"]


@pytest.mark.parametrize(
    ("atlas", "wanted"),
    [("image_1,image_0", [1, 0]), (["image_2", "image_0"], [2, 0]), ("all", [0, 1, 2]), ("image_2", [2])],
)
def test_several_atlases_and_no_other_label(tmp_path, atlas, wanted):
    write_cohort(tmp_path)
    for index in {0, 1, 2} - set(wanted):
        (tmp_path / f"label_{index}.nii.gz").write_bytes(b"never opened")
    cohort = cohort_module.OneShotCohort(str(tmp_path), atlas=atlas, max_voxels=2000)
    assert [case["case"] for case in cohort.atlases] == [f"image_{index}" for index in wanted]
    assert [case["case"] for case in cohort.whole_cases if "label" in case] == [f"image_{index}" for index in wanted]
    assert len(cohort.cases) == 3 and not any("label" in case for case in cohort.images)
    cohort.check()


def test_an_atlas_that_comes_twice_or_is_not_there_is_refused(tmp_path):
    write_cohort(tmp_path)
    with pytest.raises(ValueError, match="atlas image_1 comes twice; wanted it once"):
        cohort_module.OneShotCohort(str(tmp_path), atlas="image_1, image_1")
    with pytest.raises(ValueError, match="atlas image_9 is not a training case; wanted one of image_2"):
        cohort_module.OneShotCohort(str(tmp_path), atlas="image_1,image_9")


def test_an_atlas_of_the_number_0_is_no_other_case(tmp_path):
    """The command line reads `--atlas 0` as a number, which Python takes for nothing."""
    write_cohort(tmp_path)
    with pytest.raises(ValueError, match="atlas 0 is not a training case; wanted one of image_0"):
        cohort_module.OneShotCohort(str(tmp_path), atlas=0)


def test_an_atlas_tells_about_all_labels(tmp_path):
    write_cohort(tmp_path)
    content = json.loads((tmp_path / "dataset.json").read_text())
    for case in content["training"][:2]:
        case["known_labels"] = [1]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    assert cohort_module.OneShotCohort(str(tmp_path)).candidates == ["image_2"]
    assert [case["case"] for case in cohort_module.OneShotCohort(str(tmp_path), atlas="all").atlases] == ["image_2"]
    with pytest.raises(ValueError, match="image_1: known_labels has 1 of 2 labels; wanted all for an atlas"):
        cohort_module.OneShotCohort(str(tmp_path), atlas="image_1")
    content["training"][2]["known_labels"] = [2]
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="image_2: known_labels has 1 of 2 labels"):
        cohort_module.OneShotCohort(str(tmp_path))
