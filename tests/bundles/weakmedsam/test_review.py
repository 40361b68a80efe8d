from __future__ import annotations

import nibabel
import numpy as np

from support.bundle.path import import_bundle
from support.report.page import check_page
from support.weakmedsam.fake import LABELS, SIZE, FakeLabeller, cohort, images, structures

module = import_bundle("weakmedsam", "review")


def review(folder, reject=()):
    known = cohort(reject=reject)
    return module.Review(FakeLabeller(known), known, images(), str(folder))


def test_a_volume_and_a_section_for_each_case(tmp_path, capsys):
    review(tmp_path, reject=("case_1",)).write()
    folder = tmp_path / "pseudo_labels"
    assert {path.name for path in folder.iterdir()} == {"case_0.nii.gz", "case_1.nii.gz", "report.html"}
    volume = nibabel.load(folder / "case_0.nii.gz")
    assert volume.get_data_dtype() == np.uint8 and volume.shape == SIZE
    assert np.array_equal(np.asarray(volume.dataobj), np.array(list(LABELS))[structures().numpy()])
    page = (folder / "report.html").read_text(encoding="utf-8")
    seen = check_page(page)
    assert seen.texts["h3"] == ["case_0", "case_1 "] and "rejected" in seen.texts["span"]
    assert "1 of 2 masks are learnt from." in page and len(seen.all("img")) == 2 * 2
    assert "1 to learn from, 1 rejected" in capsys.readouterr().out


def test_numbers_that_tell_a_bad_label(tmp_path):
    made = review(tmp_path)
    front, back = made.label_rows("case_0")
    assert front == {
        "structure": "front",
        "volume (ml)": 1.25,
        "typical volume (ml)": 1.5,
        "positive slices (%)": 40.0,
        "agreement": 0.75,
        "consistency": 0.875,
    }
    assert back["typical volume (ml)"] is None and back["positive slices (%)"] == 50.0
    row = made.rows()[0]
    assert row["front (ml)"] == 1.25 and row["lowest agreement"] == 0.5 and row["lowest consistency"] == 0.875


def test_the_least_consistent_comes_first_and_each_case_has_its_dots(tmp_path, monkeypatch):
    made = review(tmp_path)
    known = made.labeller.judgement("case_0")
    worse = {**known, "z_consistency": {"1": 0.9, "4": 0.2}}
    monkeypatch.setattr(made.labeller, "judgement", lambda case: worse if case == "case_1" else known)
    assert made.worst_first() == ["case_1", "case_0"]
    assert made.strips()["back"]["consistency"] == [known["z_consistency"]["4"], 0.2]


def test_a_label_that_is_lost_is_said_aloud(tmp_path, capsys, monkeypatch):
    made = review(tmp_path)
    assert made.lost() == []
    judged = {**made.labeller.judgement("case_0"), "volume_ml": {"1": 0.0, "4": 2.5}}
    monkeypatch.setattr(made.labeller, "judgement", lambda case: judged)
    made.write()
    assert "warning: no pseudo label has a single voxel of front" in capsys.readouterr().out
    page = (tmp_path / "pseudo_labels" / "report.html").read_text(encoding="utf-8")
    assert "a single voxel of front" in page and "voxel of back" not in page


def test_supervision_says_all_that_the_user_has_told():
    labeller = FakeLabeller(cohort())
    assert module.supervision(labeller) == (
        "Supervision: presence bits of the slices, one typical box for each label and a rough volume for each label."
    )
    labeller.prior, labeller.threshold = "cam", "otsu"
    assert module.supervision(labeller) == "Supervision: presence bits of the slices."
    labeller.threshold = "size"
    assert module.supervision(labeller) == (
        "Supervision: presence bits of the slices and a rough volume for each label."
    )
