"""inference.json as a user runs it, on a model whose answer is known: bright voxels are class 1."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import torch
from monai.bundle import ConfigParser, ConfigWorkflow

from common.errors import InputError, find_input_error
from common.volumes.read import read_volume
from support.bundle.path import import_bundle
from support.data.dicom_series import move_slices, write_series
from support.data.ellipsoid import GEOMETRIES, affine_of, dice, scan, truth, write_itk

ROOT = Path(__file__).resolve().parents[3]
BUNDLE = ROOT / "bundles" / "rrl_medsam"
CONFIG = BUNDLE / "configs" / "inference.json"
CHANNELS = {"channels": [4, 4, 8, 8], "output": "general"}
QUICK = {**CHANNELS, "tta_views": 0, "refine_intensity": 0.0}


@pytest.fixture
def clean_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the bundle's `scripts` in place, and put back what a run changes in its process."""
    import_bundle("rrl_medsam")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "path", list(sys.path))
        patch.setattr(sys, "excepthook", sys.excepthook)
        yield


@pytest.fixture
def run(clean_process, monkeypatch, model, tmp_path):
    """Run inference.json in this process, from the root of the repository."""
    monkeypatch.chdir(ROOT)

    def workflow(dataset_dir, config: Path | str = CONFIG, **overrides):
        settings = {**QUICK, "ckpt_path": str(model), "output_dir": str(tmp_path / "out"), "device": "cpu"}
        settings |= {"dataset_dir": str(dataset_dir), **overrides}
        flow = ConfigWorkflow(str(config), workflow_type="inference", logging_file=False, **settings)
        flow.initialize()
        flow.run()
        return Path(settings["output_dir"])

    return workflow


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    return save_model(tmp_path_factory.mktemp("model") / "model.pt", [0, 1])


def save_model(path: Path, label_values: list[int]) -> Path:
    """Write a model.pt of the bundle's own network in which the image alone decides, at half of its range."""
    grid = {"spatial_size": [32, 32, 32], "pixdim": [3.0, 3.0, 3.0], "label_values": label_values}
    network = import_bundle("rrl_medsam", "network").RRLMedSAMNetwork(**grid, **CHANNELS)
    head = network.general_decoder.head
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.weight[-1, -1, *(size // 2 for size in head.kernel_size)], head.bias[-1] = 40.0, -20.0
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def scans(tmp_path_factory) -> Path:
    """One NIfTI for each geometry, and the oblique one in all other formats."""
    folder = tmp_path_factory.mktemp("scans")
    for name, geometry in GEOMETRIES.items():
        voxels, affine = scan(*geometry)
        nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / f"{name}.nii.gz")
    for name in ("format.nrrd", "other.mha", "series"):
        write_itk(folder / name, *scan(*GEOMETRIES["oblique"]))
    return folder


def test_label_maps_lie_on_each_scans_own_grid(run, scans, capsys):
    output = run(scans)
    names = [*GEOMETRIES, "format", "other", "series"]
    assert sorted(os.listdir(output)) == sorted(names)
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


def test_what_lies_outside_of_the_grid_is_said(run, scans, capsys):
    run(scans / "larger than the grid.nii.gz")  # 152.5 x 135 x 136.5 mm, the grid has 96
    lines = [line for line in capsys.readouterr().out.splitlines() if "field of view" in line]
    # 39 of 61 x 33 of 45 x 27 or 28 of 39 planes of voxels lie inside
    assert len(lines) == 1 and "larger than the grid.nii.gz: 6" in lines[0] and "(96 x 96 x 96 mm)" in lines[0]
    run(scans / "RAS.nii.gz")
    assert "field of view" not in capsys.readouterr().out


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


def problems_of(error: pytest.ExceptionInfo) -> list[str]:
    found = find_input_error(error.value)
    assert found is not None, error.value
    return found.problems


def test_bad_files_cost_the_good_ones_nothing(run, scans, tmp_path, capsys):
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("a_good", "z_good"):
        (folder / f"{name}.nii.gz").write_bytes((scans / "RAS.nii.gz").read_bytes())
    (folder / "cut.nii.gz").write_bytes((scans / "RAS.nii.gz").read_bytes()[:500])
    (folder / "text.nrrd").write_text("no image")
    with pytest.raises(Exception) as error:  # at the end; MONAI wraps it
        run(folder)
    assert [Path(line.split(":")[0]).name for line in problems_of(error)] == ["cut.nii.gz", "text.nrrd"]
    assert sorted(path.parent.name for path in (tmp_path / "out").rglob("*.nii.gz")) == ["a_good", "z_good"]
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith("left out: ") for line in said] == [True, True]
    for name in ("a_good", "z_good"):
        (folder / f"{name}.nii.gz").unlink()
    with pytest.raises(Exception) as error:
        run(folder, output_dir=str(tmp_path / "none"))
    assert len(problems_of(error)) == 2 and not list((tmp_path / "none").rglob("*.nii.gz"))


def test_a_scan_that_fails_on_its_way_costs_no_other(run, scans, tmp_path, monkeypatch, capsys):
    """No memory for the one, no room on the disk for another."""
    native = sys.modules["scripts.common.grid.native"].ToNativeGridd
    whole = native.__call__

    def fails(self, data):
        name = Path(data["image"].meta["filename_or_obj"]).name
        if name.startswith("LPS"):
            raise RuntimeError(
                "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
            )
        return whole(self, data)

    monkeypatch.setattr(native, "__call__", fails)
    (tmp_path / "out" / "PSR").mkdir(parents=True)
    (tmp_path / "out" / "PSR" / "PSR_seg.nii.gz").mkdir()  # where a file is to be written
    folder = tmp_path / "scans"
    folder.mkdir()
    for name in ("LPS", "PSR", "RAS"):
        (folder / f"{name}.nii.gz").write_bytes((scans / f"{name}.nii.gz").read_bytes())
    with pytest.raises(Exception) as error:
        run(folder)
    first, second = problems_of(error)
    assert "LPS.nii.gz: not enough memory" in first and "PSR.nii.gz: its result can't be written" in second
    assert (tmp_path / "out" / "RAS" / "RAS_seg.nii.gz").is_file()
    printed = capsys.readouterr()
    assert printed.err.count("not predicted: ") == 2 and "Traceback" not in printed.out + printed.err


def test_no_model_or_another_model_is_said_plainly(run, scans, tmp_path):
    with pytest.raises(Exception) as error:
        run(scans / "RAS.nii.gz", ckpt_path=str(tmp_path / "model.pt"))
    assert len(problems_of(error)) == 1 and "model.pt: no such file; wanted a trained model" in problems_of(error)[0]
    with pytest.raises(Exception) as error:
        run(scans / "RAS.nii.gz", channels=[4, 4, 8, 16])
    assert any("wrong-shaped tensors" in line for line in problems_of(error))


def test_bundle_root_is_found_from_the_repository_and_from_the_bundle(run, scans, model, monkeypatch, tmp_path):
    outputs = []
    for folder, config in ((ROOT, "bundles/rrl_medsam/configs/inference.json"), (BUNDLE, "configs/inference.json")):
        monkeypatch.chdir(folder)
        parser = ConfigParser()
        parser.read_config(config)
        assert Path(parser.get_parsed_content("bundle_root")).resolve() == BUNDLE
        assert Path(parser.get_parsed_content("ckpt_path")).resolve() == BUNDLE / "models" / "model.pt"
        assert Path(parser.get_parsed_content("output_dir")).resolve() == BUNDLE / "eval" / "predictions"
        output = run(scans / "RAS.nii.gz", config=config, output_dir=str(tmp_path / folder.name))
        outputs.append((output / "RAS" / "RAS_seg.nii.gz").read_bytes())
    assert outputs[0] == outputs[1]


GUARD = """
import socket, sys

def refuse(*arguments, **options):
    raise OSError("this test allows no network")

socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse

class NoSam:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "segment_anything":
            raise ImportError("this test allows no SAM")

sys.meta_path.insert(0, NoSam())
"""


def test_as_a_process_elsewhere_with_model_pt_alone(run, scans, model, tmp_path):
    """From another folder with --bundle_root; without SAM, network or a writable home."""
    elsewhere, home = tmp_path / "elsewhere", tmp_path / "home"
    elsewhere.mkdir()
    home.mkdir()
    (home / "sitecustomize.py").write_text(GUARD)
    options = {**QUICK, "bundle_root": BUNDLE, "ckpt_path": model, "output_dir": "out", "device": "cpu"}
    flags = [f"--{key}={value}" for key, value in options.items()]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIG)]
    environment = {**os.environ, "PYTHONPATH": str(home), "HOME": str(home)}

    def process(*more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            [*command, *flags, *more],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=120,
        )

    result = process(f"--dataset_dir={scans / 'RAS.nii.gz'}")
    assert result.returncode == 0, result.stderr
    written = elsewhere / "out" / "RAS" / "RAS_seg.nii.gz"
    assert f"{Path('out') / 'RAS' / 'RAS_seg.nii.gz'}  label 1: " in result.stdout
    assert [path for path in elsewhere.rglob("*") if path.is_file()] == [written]
    here = run(scans / "RAS.nii.gz") / "RAS" / "RAS_seg.nii.gz"
    assert written.read_bytes() == here.read_bytes()


def test_bad_input_ends_a_process_with_its_line_alone(clean_process, model, tmp_path):
    (tmp_path / "text.nrrd").write_text("no image")
    flags = [f"--bundle_root={BUNDLE}", f"--ckpt_path={model}", f"--dataset_dir={tmp_path}", "--output_dir=out"]
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", str(CONFIG), *flags]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, encoding="utf-8", timeout=120)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "text.nrrd: not a readable image" in errors[0]


def test_a_server_can_use_the_parts_without_files(clean_process, scans, model, monkeypatch):
    """MONAI Label and Deploy take transforms, inferer and network, and leave out SaveImage."""
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(str(BUNDLE))
    monkeypatch.setattr(socket.socket, "connect", lambda *a: pytest.fail("network"))
    parser = ConfigParser()
    parser.read_config(CONFIG)
    parser.update({**QUICK, "bundle_root": str(BUNDLE), "ckpt_path": str(model), "device": "cpu"})
    parts = {name: parser.get_parsed_content(name) for name in ("preprocessing", "inferer", "postprocessing")}
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(model, weights_only=True))
    item = parts["preprocessing"]({"image": str(scans / "PSR.nii.gz")})
    item["pred"] = parts["inferer"](item["image"][None], network.eval())[0]
    for transform in parts["postprocessing"].transforms:
        if type(transform).__name__ != "SaveImaged":
            item = transform(item)
    image = nibabel.load(scans / "PSR.nii.gz")
    assert item["pred"].shape == (1, *image.shape) and np.allclose(item["pred"].affine, image.affine, atol=1e-5)
    assert dice(item["pred"][0].numpy() == 1, truth(image.affine, image.shape)) > 0.93


def test_what_training_and_inference_share_is_the_same_text():
    files = [BUNDLE / "configs" / name for name in ("train.json", "inference.json")]
    train, inference = (json.loads(file.read_text(encoding="utf-8")) for file in files)
    numbers = "percentiles channels strides norm dropout prompt output tta_views refine_intensity".split()
    for key in ("preprocessing", "network_def", "inferer", *numbers):
        assert inference[key] == train[key], key


def test_config_stays_readable():
    lines = CONFIG.read_text(encoding="utf-8").splitlines()
    assert len(lines) < 120
    assert issubclass(InputError, ValueError)
