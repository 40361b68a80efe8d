"""Fixtures and settings that all tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Before torch and matplotlib are imported: threads that spin while they wait slow down everything else on the machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("MPLBACKEND", "Agg")
ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a small sample cohort: 5 training, 1 validation and 2 test cases of about 32^3 voxels. Read only."""
    from common.data.sample import make_sample_cohort

    folder = tmp_path_factory.mktemp("cohort") / "tiny"
    return make_sample_cohort(folder, num_training=5, num_validation=1, num_test=2, spatial_size=(32, 32, 32))


@pytest.fixture
def phantom() -> dict[str, torch.Tensor]:
    """One volume of 24x20x16: `image` [1,1,H,W,D] float in [0,1], `label` [1,1,H,W,D] of 0, 1 and 2, two ellipsoids."""
    axes = torch.meshgrid(*[torch.linspace(-1, 1, n) for n in (24, 20, 16)], indexing="ij")
    label = torch.zeros(24, 20, 16, dtype=torch.long)
    for value, centre, radii in ((1, (-0.25, 0.0, 0.0), (0.45, 0.5, 0.6)), (2, (0.45, 0.2, -0.1), (0.3, 0.35, 0.4))):
        distance = sum(((axis - c) / r) ** 2 for axis, c, r in zip(axes, centre, radii, strict=True))
        label[distance < 1] = value
    noise = torch.randn(label.shape, generator=torch.Generator().manual_seed(0))
    image = (0.2 + 0.3 * label + 0.05 * noise).clamp(0, 1)
    return {"image": image[None, None], "label": label[None, None]}


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the public data sets beside the repository; skips the test where it is missing."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the data sets in {folder}")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder beside an empty folder, which is where the process stands."""
    for name in ("home", "here"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "home"
