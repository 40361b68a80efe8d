from __future__ import annotations

import sys

import nibabel
import numpy as np
import pytest

from common.errors import InputError
from support.bundle.path import BUNDLES, import_bundle
from support.bundle.run import RRL
from support.data.bright_ball import SPACING, ball, write_ball
from support.data.dicom_series import move_slices
from support.networks.bright_model import CHANNELS, save_model
from tools.watching.held_bundle import HeldBundle, read_flags

FLAGS = ["--channels", str(CHANNELS["channels"]), "--output", CHANNELS["output"], "--device", "cpu"]
ML = SPACING**3 / 1000  # of a voxel


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("held")


@pytest.fixture(scope="module")
def held(folder):
    """RRL-MedSAM with a model that finds what is bright, held for all tests of this file."""
    path, hook = list(sys.path), sys.excepthook
    import_bundle("rrl_medsam")
    model = save_model(folder / "model.pt", [0, 7])
    yield HeldBundle(BUNDLES / "rrl_medsam", folder / "out", ["--ckpt_path", str(model), *FLAGS])
    sys.path[:], sys.excepthook = path, hook


def test_one_scan_after_the_other(held, folder, capfd):
    for name, radius in (("a", 6.0), ("b", 8.0)):
        found = held.segment(write_ball(folder / name, f"1.2.{radius:g}", radius))
        assert found.problems == [] and found.labels == [7] and found.why == [] and found.seconds > 0
        assert found.volumes[7] == pytest.approx(4 / 3 * np.pi * radius**3 * ML, rel=0.1)
        written = {path.name for path in (folder / "out").rglob("*") if path.is_file()}
        assert {f"{name}_seg.nii.gz", f"{name}_seg.dcm", "review.csv", "review.html"} <= written
        label = nibabel.load(folder / "out" / name / f"{name}_seg.nii.gz")
        assert (np.asarray(label.dataobj) == 7).sum() * ML == pytest.approx(found.volumes[7])
    said = capfd.readouterr()
    assert said.out + said.err == "" and "b_seg.nii.gz" in found.said
    assert held._evaluator.state.output == [] and held._evaluator.state.batch is None


def test_it_is_what_the_bundles_own_command_writes(held, folder):
    scan = write_ball(folder / "c", "1.2.3", 7.0)
    held.segment(scan)
    given = {"ckpt_path": str(folder / "model.pt"), "output": "general", "channels": CHANNELS["channels"]}
    RRL.run(["inference.json"], folder / "command", scan, "infer", **given)
    ours, theirs = (nibabel.load(folder / place / "c" / "c_seg.nii.gz") for place in ("out", "command/output"))
    assert np.array_equal(ours.dataobj, theirs.dataobj) and np.allclose(ours.affine, theirs.affine)


def test_a_bad_series_is_said_without_its_folder_and_the_next_one_is_segmented(held, folder):
    bad = move_slices(write_ball(folder / "gap", "1.2.4"), {n: (0.0, 0.0, 30.0) for n in range(10, 20)})
    found = held.segment(bad)
    assert len(found.problems) == 1 and "a gap of 33 mm between" in found.problems[0]
    assert str(folder) not in found.problems[0] and found.volumes == {} and not (folder / "out" / "gap").exists()
    assert held.segment(write_ball(folder / "good", "1.2.5")).problems == []


def test_what_nobody_expected_is_not_told_in_the_line(held, folder, monkeypatch):
    scan = write_ball(folder / "odd", "1.2.6")

    def fail(*arguments, **options):
        raise ValueError("PatientName Mueller is odd")

    with monkeypatch.context() as patch:
        patch.setattr(held._evaluator, "inferer", fail)
        found = held.segment(scan)
    assert found.problems == ["ValueError, which was not expected; series.json tells it"]
    assert "Mueller is odd" in found.said and "Traceback" in found.said
    assert held.segment(scan).problems == []


def test_what_else_there_is_to_know(held, folder):
    image = nibabel.Nifti1Image(ball(6.0).astype(np.int16), None)
    image.header.set_zooms([SPACING] * 3)
    nibabel.save(image, folder / "bare.nii.gz")
    found = held.segment(folder / "bare.nii.gz")
    assert found.problems == [] and not list((folder / "out" / "bare").glob("*.dcm"))
    assert [note.partition(",")[0] for note in found.notes] == ["has neither a qform nor an sform"]


def test_which_model_it_was(held):
    assert held.about["bundle"].startswith("rrl_medsam ") and len(held.about["model"]) == 64


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--devise", "cpu"], "--devise: no such key in inference.json; the closest is --device"),
        (["--review", "perhaps"], "--review is 'perhaps'; wanted true or false"),
        (["--dicom_seg", "false"], "--dicom_seg is what the service gives itself"),
        (["cpu"], "'cpu' is no argument; wanted --key value"),
    ],
)
def test_flags_that_are_none(held, flags, said):
    with pytest.raises(ValueError, match=said):  # of the bundle's own class
        read_flags(BUNDLES / "rrl_medsam" / "configs" / "inference.json", flags)


def test_flags_are_read_as_the_bundles_command_reads_them(held):
    config = BUNDLES / "rrl_medsam" / "configs" / "inference.json"
    assert read_flags(config, ["--channels", "[4,8]", "--review=false"]) == {"channels": [4, 8], "review": "false"}


def test_no_bundle(tmp_path):
    with pytest.raises(InputError, match=r"no configs/inference.json; wanted the folder of a bundle"):
        HeldBundle(tmp_path, tmp_path / "out")
