from __future__ import annotations

import os

import nibabel
import numpy as np
import pytest
import torch

from common.errors import InputError
from common.files.atomic_write import require_writable
from common.serving.prediction_files import CaseFolderLayout, ScanNibabelWriter
from common.volumes.nifti_forms import read_forms


def test_one_folder_a_case_and_dots_stay(tmp_path):
    layout = CaseFolderLayout(str(tmp_path), "seg")
    series = tmp_path / "1.2.840.1"
    series.mkdir()
    assert layout.filename(subject="/data/scan.1.nii.gz") == str(tmp_path / "scan.1" / "scan.1_seg.nii.gz")
    assert layout.filename(subject=str(series)) == str(tmp_path / "1.2.840.1" / "1.2.840.1_seg.nii.gz")


def write(path, value):
    writer = ScanNibabelWriter(output_dtype=np.uint8)
    writer.set_data_array(np.full((1, 3, 4, 5), value), channel_dim=0)
    writer.set_metadata({"affine": np.diag([1.0, 2.0, 3.0, 1.0])}, resample=False)
    writer.write(str(path))


def test_file_is_whole_and_alone(tmp_path):
    write(tmp_path / "a_seg.nii.gz", 3)
    image = nibabel.load(tmp_path / "a_seg.nii.gz")
    assert image.get_data_dtype() == np.uint8 and image.shape == (3, 4, 5)
    assert os.listdir(tmp_path) == ["a_seg.nii.gz"]


def forms_of(header: nibabel.Nifti1Header) -> list[float]:
    return read_forms(header).tolist()


def test_a_nifti_scan_lends_its_forms_and_units(tmp_path):
    affine = np.diag([1.0, 2.0, 3.0, 1.0])
    scan = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    scan.set_qform(affine + np.eye(4, k=3), 3)
    scan.set_sform(affine, 2)
    scan.header.set_xyzt_units("mm", "sec")
    writer = ScanNibabelWriter(output_dtype=np.uint8)
    for values in (np.ones((1, 3, 4, 5)), np.ones((2, 3, 4, 5))):  # a label map, probabilities
        writer.set_data_array(values, channel_dim=0)
        writer.set_metadata({"affine": affine, "nifti_forms": torch.as_tensor(read_forms(scan.header))}, resample=False)
        writer.write(str(tmp_path / "a_seg.nii.gz"))
        written = nibabel.load(tmp_path / "a_seg.nii.gz")
        assert forms_of(written.header) == forms_of(scan.header)
        assert (written.affine == affine).all() and (np.asarray(written.dataobj) == 1).all()
    # elsewhere than the scan: its own place counts
    writer.set_metadata({"affine": affine + 5 * np.eye(4, k=3), "nifti_forms": read_forms(scan.header)}, resample=False)
    writer.write(str(tmp_path / "a_seg.nii.gz"))
    written = nibabel.load(tmp_path / "a_seg.nii.gz")
    assert written.affine[0, 3] == written.get_qform()[0, 3] == 5 and written.header.get_xyzt_units()[0] == "mm"


def test_failure_while_writing_leaves_the_earlier_file(tmp_path, monkeypatch):
    write(tmp_path / "a_seg.nii.gz", 3)
    before = (tmp_path / "a_seg.nii.gz").read_bytes()

    def half(image, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(nibabel, "save", half)
    with pytest.raises(OSError, match="disk full"):
        write(tmp_path / "a_seg.nii.gz", 4)
    assert (tmp_path / "a_seg.nii.gz").read_bytes() == before
    assert os.listdir(tmp_path) == ["a_seg.nii.gz"]


def test_folder_that_cannot_be_made_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"^\S*file/below: can't be written"):
        require_writable(tmp_path / "file" / "below")
    require_writable(tmp_path / "new")
    assert not any((tmp_path / "new").iterdir())
