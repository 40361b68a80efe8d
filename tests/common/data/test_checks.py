from __future__ import annotations

import builtins
import gzip
import io
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK

from common.data.checks import check_cases, distinct_values, require_sound
from common.errors import InputError
from common.volumes.read import read_geometry
from common.volumes.volume import Unreadable
from support.data.checked_volumes import SHAPE, check, mask, noise, only

SHARED = Path(__file__).parents[4] / "shared"


def write(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, np.diag([1.0, 1.5, 2.0, 1.0]) if affine is None else affine), path)
    return str(path)


def make_case(folder: Path, name: str = "a", image=None, label=None, image_affine=None, label_affine=None) -> dict:
    return {
        "case": name,
        "image": write(folder / f"images/{name}.nii.gz", noise() if image is None else image, image_affine),
        "label": write(folder / f"labels/{name}.nii.gz", mask() if label is None else label, label_affine),
    }


def test_sound_cases(tmp_path):
    affine = np.array([[0.0, -2.0, 0.0, 5.0], [0.9, 0.0, 0.1, 3.0], [-0.1, 0.0, 0.9, 1.0], [0, 0, 0, 1]])
    cases = [
        make_case(tmp_path, "a"),
        make_case(tmp_path, "oblique", image=noise(seed=1), image_affine=affine, label_affine=affine),
        make_case(tmp_path, "floats", image=noise(seed=2), label=mask().astype(np.float32)),
        make_case(tmp_path, "empty", image=noise(seed=3), label=np.zeros(SHAPE, np.uint8)),
    ]
    assert check(tmp_path, *cases) == []
    require_sound(cases[:2], cases[2:], label_values=[0, 1])


def test_missing_and_empty_files(tmp_path):
    case = make_case(tmp_path)
    Path(case["label"]).write_bytes(b"")
    assert only(check(tmp_path, case)) == "labels/a.nii.gz: the file is empty (0 bytes)"
    Path(case["label"]).unlink()
    assert only(check(tmp_path, case)) == "labels/a.nii.gz: no such file"


def test_truncated_gzip_and_wrong_checksum(tmp_path):
    case = make_case(tmp_path)
    whole = Path(case["image"]).read_bytes()
    Path(case["image"]).write_bytes(whole[: len(whole) // 2])
    assert "images/a.nii.gz: not a sound gzip file" in only(check(tmp_path, case))
    Path(case["image"]).write_bytes(whole[:-8] + bytes([whole[-8] ^ 255]) + whole[-7:])
    assert "CRC" in only(check(tmp_path, case))


def test_truncated_inside_the_voxels(tmp_path):
    path = tmp_path / "a.nii"
    write(path, noise())
    path.write_bytes(path.read_bytes()[:-100])
    assert "not a readable NIfTI file" in only(check(tmp_path, {"image": path}))
    path.write_bytes(path.read_bytes()[:200])  # within the header
    assert "not a readable NIfTI file" in only(check(tmp_path, {"image": path}))
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert "not a readable NIfTI file" in only(check(tmp_path, {"image": tmp_path / "b.nii.gz"}))


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.nrrd", "a.mha", "a.png"])
def test_renamed_text(tmp_path, name):
    (tmp_path / name).write_text("patient,age\n1,63\n" * 40)
    assert f"{name}: " in only(check(tmp_path, {"image": tmp_path / name}))


def test_nifti_under_the_wrong_name(tmp_path):
    packed = Path(write(tmp_path / "packed.nii.gz", noise()))
    packed.rename(tmp_path / "b.nii")
    assert "no NIfTI header" in only(check(tmp_path, {"image": tmp_path / "b.nii"}))
    Path(write(tmp_path / "plain.nii", noise())).rename(tmp_path / "c.nii.gz")
    assert "not a sound gzip file" in only(check(tmp_path, {"image": tmp_path / "c.nii.gz"}))


@pytest.mark.parametrize("shape", [(8, 9), (8, 9, 7, 3), (8, 9, 7, 1), (8, 9, 7, 2, 2)])
def test_other_than_3d(tmp_path, shape):
    image = write(tmp_path / "images/a.nii.gz", noise(shape))
    assert only(check(tmp_path, {"image": image})) == f"images/a.nii.gz: shape {shape}; wanted 3 dimensions"


def test_single_slice(tmp_path):
    image = write(tmp_path / "a.nii", noise((8, 9, 1)))
    assert "shape (8, 9, 1); wanted 3 dimensions of 2" in only(check(tmp_path, {"image": image}))


def test_colour_and_complex(tmp_path):
    colour = np.zeros(SHAPE, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    assert "R/G/B colours, shape (8, 9, 7)" in only(check(tmp_path, {"image": write(tmp_path / "a.nii", colour)}))
    values = noise().astype(np.complex64)
    assert "complex (complex64)" in only(check(tmp_path, {"image": write(tmp_path / "b.nii", values)}))


def test_colour_complex_and_flat_images_of_itk(tmp_path):
    colour = SimpleITK.GetImageFromArray(np.zeros((7, 9, 8, 3), np.uint8), isVector=True)
    SimpleITK.WriteImage(colour, str(tmp_path / "colour.nrrd"))
    assert "3 channels, shape (8, 9, 7)" in only(check(tmp_path, {"image": tmp_path / "colour.nrrd"}))
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise((9, 8))), str(tmp_path / "flat.mha"))
    assert "shape (8, 9); wanted 3 dimensions" in only(check(tmp_path, {"image": tmp_path / "flat.mha"}))
    series = SimpleITK.GetImageFromArray(noise((3, 7, 9, 8)), isVector=False)
    SimpleITK.WriteImage(series, str(tmp_path / "series.nrrd"))
    assert "shape (8, 9, 7, 3); wanted 3 dimensions" in only(check(tmp_path, {"image": tmp_path / "series.nrrd"}))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_no_numbers(tmp_path, bad):
    image = noise()
    image[0, 0, :2] = bad
    assert "2 of 504 voxels are NaN or Inf" in only(check(tmp_path, make_case(tmp_path, image=image)))


@pytest.mark.parametrize("value", [0, 7])
def test_constant_image(tmp_path, value):
    case = make_case(tmp_path, image=np.full(SHAPE, value, np.int16))
    assert f"images/a.nii.gz: every voxel is {value}" in only(check(tmp_path, case))


def edit_header(path: Path, **fields) -> None:
    """Change fields of a plain .nii in place, past the checks of nibabel."""
    header = nibabel.Nifti1Header.from_fileobj(io.BytesIO(path.read_bytes()), check=False)
    for field, (position, value) in fields.items():
        header[field][position] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_spacing_that_is_none(tmp_path, value):
    path = Path(write(tmp_path / "a.nii", noise()))
    edit_header(path, pixdim=(2, value))
    assert "a.nii: spacing 1, " in only(check(tmp_path, {"image": path}))


def test_singular_and_unfinite_affine(tmp_path):
    path = Path(write(tmp_path / "a.nii", noise()))
    edit_header(path, srow_x=(slice(0, 3), [1, 1.5, 0]), srow_y=(slice(0, 3), [1, 1.5, 0]))
    assert "the affine is singular" in only(check(tmp_path, {"image": path}))
    edit_header(path, srow_y=(slice(0, 3), [0, np.nan, 0]))
    assert "the affine has NaN or Inf" in only(check(tmp_path, {"image": path}))
    edit_header(path, srow_x=(slice(0, 3), [1, 0, 0]), srow_y=(slice(0, 3), [0, 0, 0]))
    assert "spacing 1, 0, 2 mm" in only(check(tmp_path, {"image": path}))


def test_small_voxels_are_not_singular(tmp_path):
    image = write(tmp_path / "microscopy.nii", noise(), np.diag([0.15, 0.15, 0.15, 1.0]))  # det .003
    assert check(tmp_path, {"image": image}) == []


@pytest.mark.parametrize(
    ("affine", "expected"),
    [
        (np.diag([1.0, 1.5, 2.01, 1.0]), "spacing 1, 1.5, 2.01 mm; wanted 1, 1.5, 2 mm as in images/a.nii.gz"),
        (np.diag([-1.0, 1.5, 2.0, 1.0]), "direction [[-1.0, 0.0, 0.0]"),
        (np.diag([1.0, 1.5, 2.0, 1.0]) + np.eye(4, k=3) * 0.02, "origin 0.02, 0, 0 mm; wanted 0, 0, 0 mm"),
    ],
)
def test_label_on_another_grid(tmp_path, affine, expected):
    line = only(check(tmp_path, make_case(tmp_path, label_affine=affine)))
    assert line.startswith("labels/a.nii.gz: ") and expected in line


def test_label_of_another_shape(tmp_path):
    line = only(check(tmp_path, make_case(tmp_path, label=mask((8, 9, 6)))))
    assert line == "labels/a.nii.gz: shape (8, 9, 6); wanted (8, 9, 7) as in images/a.nii.gz"


def test_differences_within_tolerance(tmp_path):
    affine = np.diag([1.0005, 1.5, 2.0, 1.0])
    affine[:3, 3] = 0.009
    assert check(tmp_path, make_case(tmp_path, label_affine=affine)) == []


def test_label_values(tmp_path):
    label = mask()
    label[0, 0, :2] = 3, 9
    expected = "labels/a.nii.gz: the mask has the values 3, 9; wanted only those declared: 0, 1"
    assert only(check(tmp_path, make_case(tmp_path, label=label))) == expected
    label = mask().astype(np.float32)
    label[0, 0, :2] = 0.5, 0.25
    assert "fractional values (0.25, 0.5)" in only(check(tmp_path, make_case(tmp_path, label=label)))
    label[0, 0, 0] = np.nan
    assert "the mask has NaN or Inf" in only(check(tmp_path, make_case(tmp_path, label=label)))


def test_a_mask_of_many_values_is_one_short_line(tmp_path):
    many = np.arange(50 * 50 * 50, dtype=np.int32).reshape(50, 50, 50)
    line = only(check(tmp_path, make_case(tmp_path, image=noise((50, 50, 50)), label=many)))
    assert line == "labels/a.nii.gz: the mask has more than 65536 different values; wanted only those declared"
    assert "fractional values (" in only(
        check(tmp_path, make_case(tmp_path, image=noise((50, 50, 50)), label=noise((50, 50, 50))))
    )


def test_values_are_those_that_occur():
    for array in (mask(), noise(), mask().astype(bool), np.asfortranarray(noise())):
        assert np.array_equal(distinct_values(array), np.unique(array))
    assert np.isnan(distinct_values(np.full((2, 2, 2), np.nan))).sum() == 1


def test_a_scan_whose_place_is_in_doubt_is_said(tmp_path, capsys):
    case = make_case(tmp_path)
    image = nibabel.load(case["image"])
    image.set_qform(image.affine + 9 * np.eye(4, k=3), 1)
    nibabel.save(image, case["image"])
    require_sound([case], label_values=[0, 1], dataset_dir=tmp_path)
    assert capsys.readouterr().out == (
        "images/a.nii.gz: its qform and sform are up to 9 mm apart; its sform was used, and the result has both\n"
    )


def test_atlas_needs_foreground(tmp_path):
    case = make_case(tmp_path, label=np.zeros(SHAPE, np.uint8))
    assert check(tmp_path, case) == []
    assert "labels/a.nii.gz: the mask is empty" in only(check(tmp_path, case, needs_foreground=["a"]))
    case = make_case(tmp_path, label=np.ones(SHAPE, np.uint8))
    assert check(tmp_path, case) == []
    assert "labels/a.nii.gz: every voxel of the mask is 1; wanted" in only(
        check(tmp_path, case, needs_foreground=["a"])
    )


def test_the_same_voxels_twice(tmp_path):
    cases = [make_case(tmp_path, "a"), make_case(tmp_path, "b")]
    with pytest.raises(InputError) as caught:
        require_sound(cases[:1], cases[1:], label_values=[0, 1], dataset_dir=tmp_path)
    assert only(caught.value.problems).startswith("images/b.nii.gz: the same voxels as images/a.nii.gz")


def test_all_problems_of_all_cases_come_together(tmp_path):
    image = noise()
    image[0] = np.nan
    cases = [
        make_case(tmp_path, "a", image=image, label=np.full((8, 9, 6), 4, np.uint8)),
        make_case(tmp_path, "b", label_affine=np.diag([1.0, 1.0, 1.0, 1.0])),
        make_case(tmp_path, "c", image=np.zeros((4, 4, 4, 4), np.float32)),
    ]
    with pytest.raises(InputError) as caught:
        require_sound(cases, label_values=[0, 1], dataset_dir=tmp_path)
    names = [line.split(":")[0] for line in caught.value.problems]
    assert names == ["images/a.nii.gz", "labels/a.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz", "images/c.nii.gz"]


def test_labels_that_are_not_given_are_never_opened(tmp_path, monkeypatch):
    cases = [make_case(tmp_path, "a"), make_case(tmp_path, "b", image=noise(seed=1))]
    unlabeled = {key: cases[1][key] for key in ("case", "image")}
    opened = []
    for module in (builtins, io):
        original = module.open

        def watch(file, *args, original=original, **options):
            opened.append(str(file))
            return original(file, *args, **options)

        monkeypatch.setattr(module, "open", watch)
    require_sound([cases[0]], [unlabeled], label_values=[0, 1])
    assert any(file.endswith("labels/a.nii.gz") for file in opened)
    assert not any(file.endswith("labels/b.nii.gz") for file in opened)
    opened.clear()
    require_sound(cases, label_values=[0, 1], read_labels=False)
    assert opened and not any("/labels/" in file for file in opened)


def test_progress_wraps_the_cases(tmp_path):
    seen = []

    def progress(cases):
        for case in cases:
            seen.append(case["case"])
            yield case

    check(tmp_path, make_case(tmp_path, "a"), make_case(tmp_path, "b", image=noise(seed=1)), progress=progress)
    assert seen == ["a", "b"]


def test_real_scans():
    folder = SHARED / "data" / "hippocampus"
    if not folder.is_dir():
        pytest.skip("hippocampus is not here")
    from common.data.datalist import read_datalist

    datalist = read_datalist(folder)
    assert check_cases(datalist.training[:10] + datalist.test[:5], datalist.labels, dataset_dir=folder) == []


def test_slice_labels_are_held_against_the_image_where_that_is_asked_for(tmp_path):
    case = make_case(tmp_path) | {"slice_labels": {"axis": 1, "labels": {"1": [0, 1]}}}
    assert check(tmp_path, case) == []
    said = only(check(tmp_path, case, slice_labels=True))
    assert said.startswith("images/a.nii.gz: slice_labels: label 1 (liver) has 2 bits; wanted 9")
    case["slice_labels"]["labels"]["1"] = {"first": 0, "last": 8}
    assert check(tmp_path, case, slice_labels=True) == []


def test_geometry_is_read_from_the_header(tmp_path):
    case = make_case(tmp_path)
    mha = tmp_path / "a.mha"
    SimpleITK.WriteImage(SimpleITK.ReadImage(case["image"]), str(mha))
    for path in (case["image"], mha):
        shape, affine = read_geometry(path)
        assert tuple(shape) == SHAPE and np.allclose(affine, np.diag([1.0, 1.5, 2.0, 1.0]))
    broken = tmp_path / "b.nii.gz"
    broken.write_bytes(b"none")
    with pytest.raises(Unreadable, match="not a sound gzip file"):
        read_geometry(broken)


def test_a_mask_has_no_value_that_is_not_among_its_known_labels(tmp_path):
    label = mask()
    label[0, 0, 0] = 2
    case = make_case(tmp_path, label=label)
    assert check_cases([case], [0, 1, 2], dataset_dir=tmp_path) == []
    said = only(check_cases([case | {"known_labels": [1]}], [0, 1, 2], dataset_dir=tmp_path))
    assert said == "labels/a.nii.gz: the mask has the values 2; wanted only background and its known_labels: 0, 1"
