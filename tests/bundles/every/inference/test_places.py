"""Every result lies where its scan does, whatever the scan's format, geometry and units."""

from __future__ import annotations

import os
import sys

import nibabel
import numpy as np
import pydicom
import pytest

from common.volumes.read import read_volume
from support.data.dicom_series import move_slices, write_series
from support.data.ellipsoid import GEOMETRIES, affine_of, axes, dice, scan, truth
from support.networks.bright_model import save_model


def test_label_maps_lie_on_each_scans_own_grid(run, scans, capsys):
    output = run(scans)
    names = [*GEOMETRIES, "format", "other", "series"]
    assert sorted(os.listdir(output)) == sorted([*names, "review.csv", "review.html"])
    for name in names:
        image = nibabel.load(output / name / f"{name}_seg.nii.gz")
        source = next(path for path in scans.iterdir() if path.name.split(".")[0] == name)
        volume = read_volume(source)
        assert image.shape == volume.array.shape, name
        assert np.allclose(image.affine, volume.affine, atol=1e-4), name
        assert image.get_data_dtype() == np.uint8, name
        assert dice(np.asarray(image.dataobj) == 1, truth(volume.affine, image.shape)) > 0.93, name
    lines = capsys.readouterr().out.splitlines()
    written = {line.split("  ")[0]: line for line in lines if "_seg.nii.gz" in line}
    assert set(written) == {str(output / name / f"{name}_seg.nii.gz") for name in names}
    assert all("label 1: " in line and " ml  " in line for line in written.values())


def test_any_format_of_a_scan_gives_the_same(run, scans):
    output = run(scans)
    names = ("oblique", "format", "other", "series")
    pred = {name: nibabel.load(output / name / f"{name}_seg.nii.gz") for name in names}
    wanted = np.asarray(pred["oblique"].dataobj)
    for name in ("format", "other"):
        assert (np.asarray(pred[name].dataobj) == wanted).mean() > 0.999, name
    # ITK sorts the slices of a series its own way, so compare in space
    size = pred["series"].shape
    assert np.asarray(pred["series"].dataobj).sum() == pytest.approx(wanted.sum(), rel=0.01)
    assert dice(np.asarray(pred["series"].dataobj) == 1, truth(pred["series"].affine, size)) > 0.93


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="elsewhere file names are text")
@pytest.mark.parametrize("name", [b"a scan (1)", "Schädel".encode(), b"scan\xff", b"scan\n2"])
def test_any_file_name_of_a_scan(run, scans, tmp_path, capsys, name):
    folder, case = tmp_path / "scans", os.fsdecode(name)
    folder.mkdir()
    (folder / f"{case}.nii.gz").write_bytes((scans / "RAS.nii.gz").read_bytes())
    written = run(folder) / case / f"{case}_seg.nii.gz"
    assert written.read_bytes() == (run(scans / "RAS.nii.gz") / "RAS" / "RAS_seg.nii.gz").read_bytes()
    said = capsys.readouterr().out.splitlines()
    assert sum("_seg.nii.gz  label 1: " in line for line in said) == 2 and all(line.isprintable() for line in said)


@pytest.mark.parametrize(("values", "kind"), [([0, 200], np.uint8), ([0, 300], np.uint16)])
def test_label_map_has_the_trained_values(run, scans, tmp_path, values, kind):
    path = save_model(tmp_path / "model.pt", values)
    output = run(scans / "RAS.nii.gz", ckpt_path=str(path))
    image = nibabel.load(output / "RAS" / "RAS_seg.nii.gz")
    assert image.get_data_dtype() == kind and np.unique(image.dataobj).tolist() == values


def test_probabilities_and_uncertainty_on_request(run, scans):
    path = scans / "oblique.nii.gz"
    options = {"tta_views": 1, "refine_intensity": 1.0, "save_probabilities": True, "save_uncertainty": "true"}
    folder = run(path, **options) / "oblique"
    label, probabilities, uncertainty = (
        nibabel.load(folder / f"oblique_{name}.nii.gz") for name in ("seg", "prob", "uncertainty")
    )
    assert probabilities.shape == (*label.shape, 2) and uncertainty.shape == label.shape
    assert np.allclose(probabilities.affine, label.affine) and np.allclose(uncertainty.affine, label.affine)
    p = probabilities.get_fdata(dtype=np.float32)
    assert np.allclose(p.sum(-1), 1, atol=1e-5) and (p.argmax(-1) == np.asarray(label.dataobj)).all()
    u = uncertainty.get_fdata()
    assert 0 <= u.min() and 0.5 < u.max() <= 1
    assert sorted(os.listdir(run(path, save_uncertainty="false", output_dir=str(folder / "bare")) / "oblique")) == [
        "oblique_seg.nii.gz"
    ]


def test_units_and_forms_are_those_of_the_scan(run, tmp_path, capsys):
    """In micrometres, with a qform elsewhere: read as the same scan in mm, written as it was."""
    voxels, affine = scan(*GEOMETRIES["oblique"])
    scale = np.diag([1e3, 1e3, 1e3, 1.0])
    image = nibabel.Nifti1Image(voxels, scale @ affine)
    image.header.set_xyzt_units("micron")
    image.set_qform(scale @ (affine + np.eye(4, k=3) * 20), 1)
    image.set_sform(scale @ affine, 2)
    (tmp_path / "scans").mkdir()
    nibabel.save(image, tmp_path / "scans" / "micron.nii.gz")
    options = {"save_probabilities": True, "save_uncertainty": True}
    folder = run(tmp_path / "scans", **options) / "micron"
    assert "micron.nii.gz: its qform and sform are up to 20 mm apart" in capsys.readouterr().out
    label = nibabel.load(folder / "micron_seg.nii.gz")
    assert dice(np.asarray(label.dataobj) == 1, truth(affine, label.shape)) > 0.93
    for name in ("seg", "prob", "uncertainty"):
        written = nibabel.load(folder / f"micron_{name}.nii.gz").header
        assert written.get_xyzt_units()[0] == "micron"
        for field in ("srow_x", "srow_y", "srow_z", "qoffset_x", "quatern_b", "quatern_d", "qform_code", "sform_code"):
            assert (written[field] == image.header[field]).all(), field
        assert (written["pixdim"][:4] == image.header["pixdim"][:4]).all()


def test_what_lies_beyond_the_models_window_is_seen_too(run, tmp_path, capsys):
    """The window spans 96 mm around the middle of a scan; here the ellipsoid lies 70 mm beside that."""
    linear, size = axes("RAS"), (101, 45, 39)
    affine = affine_of(linear, size)
    affine[0, 3] -= 70
    inside = truth(affine, size)
    (tmp_path / "scans").mkdir()
    image = nibabel.Nifti1Image((100 + 400 * inside).astype(np.int16), affine)
    nibabel.save(image, tmp_path / "scans" / "long.nii.gz")
    output = run(tmp_path / "scans")
    found = np.asarray(nibabel.load(output / "long" / "long_seg.nii.gz").dataobj) == 1
    assert dice(found, inside) > 0.9
    assert "field of view" not in capsys.readouterr().out  # nothing that was not seen


def test_tilted_and_unevenly_spaced_series_lie_right(run, tmp_path):
    write_series(tmp_path / "scans" / "tilted", *scan(*GEOMETRIES["gantry tilt"]))
    linear, size = GEOMETRIES["LPS"]
    heights = np.cumsum([0.0, *[3.5] * 12, *[5.0] * 10])
    affine = affine_of(linear, size)
    flat = [affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, h / 3.5], [0, 0, 0, 1]]) for h in heights]
    voxels = np.concatenate([100 + 400 * truth(place, (*size[:2], 1)) for place in flat], axis=2)
    folder = write_series(tmp_path / "scans" / "uneven", voxels.astype(np.int16), affine, SliceThickness="4")
    move_slices(folder, {k: (0, 0, h - 3.5 * k) for k, h in enumerate(heights)})
    output = run(tmp_path / "scans", dicom_seg=True)
    for name, depth in (("tilted", 29), ("uneven", 28)):
        image = nibabel.load(output / name / f"{name}_seg.nii.gz")
        assert image.shape[2] == depth
        assert dice(np.asarray(image.dataobj) == 1, truth(image.affine, image.shape)) > 0.93, name
    found = pydicom.dcmread(output / "uneven" / "uneven_seg.dcm")
    masks = np.zeros(voxels.shape, bool)
    for mask, group in zip(found.pixel_array, found.PerFrameFunctionalGroupsSequence, strict=True):
        height = float(group.PlanePositionSequence[0].ImagePositionPatient[2]) - affine[2, 3]
        masks[:, :, np.abs(heights - height).argmin()] = mask.T
    assert dice(masks, voxels > 100) > 0.93
