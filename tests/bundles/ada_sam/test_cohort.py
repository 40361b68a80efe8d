from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from common.errors import find_input_error
from support.bundle.path import import_bundle

FewSlicesCohort = import_bundle("ada_sam", "cohort").FewSlicesCohort
SIZE = (24, 16, 20)
BITS = {"1": {"first": 4, "last": 11}, "2": [0] * 8 + [1] * 4 + [0] * 8}
POISON = 200


def nifti(array: np.ndarray, codes: str) -> nibabel.Nifti1Image:
    """A volume given in RAS, stored in another order of axes."""
    wanted = nibabel.orientations.axcodes2ornt(codes)
    image = nibabel.Nifti1Image(array, np.eye(4))
    return image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), wanted))


def truth() -> np.ndarray:
    label = np.zeros(SIZE, np.uint8)
    label[6:18, 5:12, 4:12] = 1
    label[8:12, 5:12, 8:12] = 2
    return label


@pytest.fixture
def folder(tmp_path):
    """Six training cases with bits, the second stored as PSR, the last without a mask; a labelled test case.

    Negative slices of the training masks are poison: a draw of positive slices must never look at them.
    """
    random = np.random.default_rng(0)
    for index in range(7):
        label = truth()
        voxels = 0.3 * label + 0.05 * random.standard_normal(SIZE)
        if index < 6:
            label[..., [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 18, 19]] = POISON
        for name, array in (("image", voxels.astype(np.float32)), ("label", label)):
            nibabel.save(nifti(array, "PSR" if index == 1 else "RAS"), tmp_path / f"{name}_{index}.nii.gz")
    entries = [{"image": f"image_{i}.nii.gz", "label": f"label_{i}.nii.gz"} for i in range(7)]
    for index in range(6):
        entries[index]["slice_labels"] = {"axis": 1 if index == 1 else 2, "labels": BITS}
    del entries[5]["label"]
    content = {"name": "tiny", "labels": {"0": "background", "1": "body", "2": "core"}}
    write(tmp_path, content | {"training": entries[:6], "test": entries[6:]})
    return tmp_path


def write(folder, content):
    (folder / "dataset.json").write_text(json.dumps(content))


def change(folder, **training):
    """Change entries of training cases: `_0={"label_slices": [4]}`."""
    content = json.loads((folder / "dataset.json").read_text())
    for name, changes in training.items():
        content["training"][int(name[1:])].update(changes)
    write(folder, content)


def checked(folder, **options):
    """Return a cohort whose files were looked at, as a plan does before anything is learnt."""
    cohort = FewSlicesCohort(str(folder), **options)
    cohort.check()
    return cohort


def problems(folder, **options) -> str:
    with pytest.raises(ValueError) as error:
        checked(folder, divisor=4, **options)
    return "\n".join(find_input_error(error.value).problems)


def pairs(cohort) -> set:
    return {(case, index) for case, indices in cohort.label_slices.items() for index in indices}


def test_a_budget_is_drawn_from_positive_slices_by_patient(folder):
    (folder / "label_0.nii.gz").rename(folder / "kept.nii.gz")
    (folder / "label_0.nii.gz").write_bytes(b"never opened")
    cohort = checked(folder, num_label_slices=3, seed=0)
    assert "image_0" not in cohort.label_slices  # else another seed is wanted here
    assert len(pairs(cohort)) == 3 and len(cohort.label_slices) == 3
    assert all(4 <= index <= 11 for _, index in pairs(cohort))
    with_masks = {case["case"]: set(case) for case in cohort.cases}
    assert all(("label" in keys) == (case in cohort.label_slices) for case, keys in with_masks.items())
    assert with_masks["image_5"] == {"case", "image", "slice_labels"} and "image_5" not in cohort.label_slices
    assert all(case["label_slices"] == cohort.label_slices[case["case"]] for case in cohort.cases if "label" in case)
    assert [case["case"] for case in cohort.scored] == ["image_6"]
    (folder / "kept.nii.gz").rename(folder / "label_0.nii.gz")
    more = checked(folder, num_label_slices=12, seed=0)
    assert pairs(cohort) < pairs(more) and max(map(len, more.label_slices.values())) == 3
    assert pairs(checked(folder, num_label_slices=12, seed=1)) != pairs(more)


def test_what_it_knows(folder):
    cohort = checked(folder, num_label_slices=40, divisor=4)
    assert cohort.slice_axis == 2 and cohort.slice_size == (24, 16) and cohort.name == "tiny"
    grid = {"spatial_size": [24, 16, 20], "pixdim": [1.0] * 3, "label_values": [0, 1, 2]}
    assert cohort.grid.as_dict() == {**grid, "strides": [[2, 2, 2]] * 2}
    assert cohort.positive_share == {1: 0.4, 2: 0.2}
    assert cohort.describe() == (
        "masks on 40 slices of 5 cases (body on 40, core on 20); presence bits on all 120 slices of 6 cases: "
        "body 40 %, core 20 % of the axial slices are positive"
    )


def test_slices_that_the_datalist_names(folder):
    change(folder, _0={"label_slices": [11, 4]}, _1={"label_slices": [9]})
    for index in (2, 3, 4):
        (folder / f"label_{index}.nii.gz").write_bytes(b"never opened")
    cohort = checked(folder, num_label_slices="null")
    assert cohort.label_slices == {"image_0": [4, 11], "image_1": [9]}
    assert "masks on 3 slices of 2 cases (body on 3, core on 2);" in cohort.describe()
    for index in (2, 3, 4):
        change(folder, **{f"_{index}": {"label_slices": [4]}})
        nibabel.save(nifti(truth(), "RAS"), folder / f"label_{index}.nii.gz")
    drawn = checked(folder, num_label_slices=4)
    assert pairs(drawn) < {("image_0", 4), ("image_0", 11), ("image_1", 9)} | {(f"image_{i}", 4) for i in (2, 3, 4)}
    assert "drawn from the datalist's 6" in drawn.describe()


def test_left_alone_it_takes_what_the_datalist_names_else_twenty(folder):
    drawn = checked(folder)
    assert drawn.num_label_slices == 20 and len(pairs(drawn)) == 20
    assert pairs(drawn) == pairs(checked(folder, num_label_slices=20))
    change(folder, _0={"label_slices": [11, 4]}, _3={"label_slices": [9]})
    for index in (1, 2, 4):
        (folder / f"label_{index}.nii.gz").write_bytes(b"never opened")
    named = checked(folder, num_label_slices="auto")
    assert named.num_label_slices is None and named.label_slices == {"image_0": [4, 11], "image_3": [9]}
    assert "drawn" not in named.describe()
    change(folder, _0={"label_slices": [4]}, _3={"label_slices": [5]})
    assert "label 2 (core) is on no slice that has a mask" in problems(folder)


def test_left_alone_with_fewer_than_twenty_positive_slices_it_takes_all(folder):
    content = json.loads((folder / "dataset.json").read_text())
    for index in (1, 2, 3, 4):
        del content["training"][index]["label"]
    write(folder, content)
    assert checked(folder).label_slices == {"image_0": list(range(4, 12))}
    assert "num_label_slices is 9; wanted 1 to 8" in problems(folder, num_label_slices=9)
    del content["training"][0]["label"]
    write(folder, content)
    for count in ("auto", 3, None):
        assert "none of 6 training cases has a label" in problems(folder, num_label_slices=count)


def test_what_is_wrong_with_the_choice(folder):
    for nothing in (None, "null"):
        said = problems(folder, num_label_slices=nothing)
        assert said == (
            "dataset.json: no training case has label_slices, and num_label_slices is null; wanted one of the two"
        )
    assert "num_label_slices is 'all'; wanted a whole number, or null" in problems(folder, num_label_slices="all")
    assert "num_label_slices is 41; wanted 1 to 40" in problems(folder, num_label_slices=41)
    change(folder, _0={"label_slices": [4, 20]}, _1={"label_slices": [12]})
    said = problems(folder)
    assert "image_0: label label_0.nii.gz: label_slices has 20; wanted 0 to 19" in said
    assert "image_1: label label_1.nii.gz: slices 12: the mask has the values 200" in said
    change(folder, _0={"label_slices": [4]}, _1={"label_slices": [5]})
    assert "label 2 (core) is on no slice that has a mask" in problems(folder)


def test_a_mask_that_contradicts_the_bits(folder):
    change(folder, _0={"label_slices": [8, 9], "slice_labels": {"axis": 2, "labels": BITS | {"2": None}}})
    said = problems(folder)
    assert said.count("\n") == 1 and "image_0: the mask has label 2 (core) on slice 8, which its slice_labels" in said


def test_bits_are_checked_as_in_every_cohort(folder):
    change(folder, _2={"slice_labels": {"axis": 1, "labels": {"1": None, "2": None}}})
    assert "wanted one axis for all cases" in problems(folder, num_label_slices=2)


@pytest.mark.parametrize(("name", "axis", "labels"), [("la2018", 2, 1), ("hippocampus", 1, 2)])
def test_public_data(shared_data, tmp_path, name, axis, labels):
    """The first training cases, with bits for all slices and masks for the axis' own."""
    content = json.loads((shared_data / name / "dataset.json").read_text())
    content["training"] = content["training"][:3]
    for case in content["training"]:
        mask = np.asarray(nibabel.load(shared_data / name / case["label"]).dataobj)
        on = [(mask == value + 1).any(tuple(a for a in range(3) if a != axis)) for value in range(labels)]
        case["slice_labels"] = {"axis": axis, "labels": {str(v + 1): on[v].astype(int).tolist() for v in range(labels)}}
    content |= {"test": content["test"][:1], "validation": []}
    (tmp_path / "few.json").write_text(json.dumps(content))
    cohort = FewSlicesCohort(str(shared_data / name), str(tmp_path / "few.json"), num_label_slices=7)
    assert cohort.slice_axis == axis and len(pairs(cohort)) == 7 and len(cohort.label_slices) == 3


@pytest.mark.parametrize(("masks", "split", "one"), [(4, 0, True), (4, 1, True), (4, 2, False), (2, 0, False)])
def test_a_label_is_one_piece_where_nearly_all_of_enough_masks_show_one(folder, masks, split, one):
    for index in range(masks):
        label = truth()
        label[..., [0, 1, 2, 3, 12, 13, 14, 15, 16, 17, 18, 19]] = POISON
        if index < split:
            label[11:13, :, 5] = 0
        nibabel.save(nifti(label, "PSR" if index == 1 else "RAS"), folder / f"label_{index}.nii.gz")
    change(folder, **{f"_{index}": {"label_slices": [5]} for index in range(masks)})
    core = truth()
    core[..., 10:12][core[..., 10:12] == 1] = 0
    nibabel.save(nifti(core, "RAS"), folder / "label_5.nii.gz")
    change(folder, _5={"label": "label_5.nii.gz", "label_slices": [10, 11]})
    assert checked(folder).one_piece == [False, one, False]  # two masks alone show the core


@pytest.mark.parametrize(("levels", "pixels", "size"), [(1, 192, (12, 8)), (2, 192, (24, 16)), (2, 12, (12, 8))])
def test_sam_sees_slices_as_fine_as_the_second_level(folder, levels, pixels, size):
    """The grid is twice as coarse as the scans."""
    change(folder, _0={"label_slices": [4, 8]})
    options = {"levels": levels} if levels == 1 else {"levels": levels, "fine_pixdim": [1.0, 1.0, 1.0]}
    cohort = checked(folder, spatial_size=[12, 8, 20], pixdim=[2.0, 2.0, 1.0], slice_pixels=pixels, **options)
    assert cohort.slice_size == size and cohort.grid.spatial_size == (12, 8, 20)
    assert cohort.settings["slice_pixels"] == pixels
    step = 24 / size[0]
    assert (
        cohort.describe_plan()[-1]
        == f"SAM sees slices of {size[0]} x {size[1]} pixels of {step:g} x {step:g} mm, one each 1 mm"
    )


def test_of_partial_masks_slices_are_drawn_on_which_what_they_do_not_tell_about_is_absent(folder):
    change(folder, **{f"_{number}": {"known_labels": [1]} for number in range(5)})
    found = pairs(checked(folder, num_label_slices=20))
    assert {index for _, index in found} == {4, 5, 6, 7} and len({case for case, _ in found}) == 5
    assert checked(folder).num_label_slices == 20
    assert "wanted 1 to 20" in problems(folder, num_label_slices=21)
    change(folder, _0={"known_labels": [1], "label_slices": [7, 8]})
    said = "image_0: slice_labels have label 2 (core) on slice 8, which known_labels lacks; wanted label_slices whose"
    assert said in problems(folder, num_label_slices=None) and "on slice 7" not in problems(folder)
    assert pairs(checked(folder, num_label_slices=5)) >= {("image_0", 7)}
