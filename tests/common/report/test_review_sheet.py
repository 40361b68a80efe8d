"""review.csv and review.html name the scan that should be looked at first."""

from __future__ import annotations

import csv

import torch
from ignite.engine import Engine
from monai.data import MetaTensor

from common.report.review_sheet import ReviewSheet
from support.report.page import check_page

METADATA = {
    "name": "Organs",
    "network_data_format": {"outputs": {"pred": {"channel_def": {"0": "background", "1": "liver", "2": "spleen"}}}},
}


def row(label, dice, why=()):
    found = {"label": label, "predicted_dice": dice, "low": dice - 0.1, "high": dice + 0.1}
    return {**found, "own": dice, "view": 1.0, "volume_ml": 3.0, "spread": 1.0, "look": bool(why), "why": list(why)}


def item(folder, case, rows):
    found = torch.zeros(12, 12, 12, dtype=torch.uint8)
    found[3:8, 3:8, 3:8] = 1
    image = MetaTensor(torch.rand(1, 12, 12, 12), affine=torch.eye(4), meta={"filename_or_obj": f"{case}.nii.gz"})
    pred = MetaTensor(torch.zeros(1, 2, 2, 2), meta={"saved_to": str(folder / case / f"{case}_seg.nii.gz")})
    return {"image": image, "pred": pred, "found": found, "review": rows}


def test_the_scan_to_look_at_comes_first_and_its_reason_is_said(tmp_path, capsys):
    items = [
        item(tmp_path, "good", [row(1, 0.95), row(3, 0.9)]),
        item(tmp_path, "odd", [row(1, 0.96, ["label 1 has a volume unlike what was learnt from"]), row(3, 0.97)]),
        item(tmp_path, "poor", [row(1, 0.9), row(3, 0.2, ["label 3 is unsure"])]),
    ]
    sheet = ReviewSheet(str(tmp_path), [0, 1, 3], METADATA)
    engine = Engine(lambda _, one: [one])
    sheet.attach(engine)
    engine.run(items)
    with (tmp_path / "review.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [one["case"] for one in rows] == ["poor", "poor", "odd", "odd", "good", "good"]
    assert rows[0] == {"case": "poor", "label": "3", "name": "spleen", "predicted_dice": "0.2", "low": "0.1",
                       "high": "0.3", "volume_ml": "3.0", "look": "yes", "why": "label 3 is unsure", "own": "0.2",
                       "view": "1.0", "spread": "1.0"}  # fmt: skip
    page = (tmp_path / "review.html").read_text(encoding="utf-8")
    seen = check_page(page)
    assert "2 of 3 scans should be looked at first" in page and len(seen.all("img")) == 2 * 3
    assert [heading.strip() for heading in seen.texts["h3"]] == ["poor", "odd", "good"]
    # by the names of the labels, and what was not odd is said to be so
    assert "spleen is unsure" in page and "liver has a volume unlike" in page and "label 3" not in page
    assert "nothing odd; lowest is spleen, 0.90 expected" in page
    assert "(2 of 3 scans to look at)" in capsys.readouterr().out


def test_slices_are_counted_as_the_file_does(tmp_path, monkeypatch):
    sheet, named = ReviewSheet(str(tmp_path), [0, 1, 3], METADATA), []
    monkeypatch.setattr("common.report.review_sheet.overlay_png", lambda *_, slice_name, **__: named.append(slice_name))
    one = item(tmp_path, "scan", [row(1, 0.9)])
    sheet.picture(one)
    file = torch.diag(torch.tensor([1.0, 1.0, -0.5, 1.0]))  # its slices are half as thick and run downwards
    file[2, 3] = 11.5
    one["image"].meta |= {"original_affine": file.numpy(), "spatial_shape": [12, 12, 24]}
    sheet.picture(one)
    assert named[0] is None and named[1](2, 11) == "slice 2 of 24" and named[1](0, 0) == "slice 1 of 12"


def test_what_is_done_is_kept_where_the_rest_fails(tmp_path):
    sheet = ReviewSheet(str(tmp_path), [0, 1, 3], METADATA)

    def step(_, one):
        if one is None:
            raise RuntimeError("stopped")
        return [one]

    engine = Engine(step)
    sheet.attach(engine)
    try:
        engine.run([item(tmp_path, "good", [row(1, 0.95)]), None])
    except RuntimeError:
        pass
    assert "good" in (tmp_path / "review.csv").read_text(encoding="utf-8")


def test_pictures_are_of_the_worst_alone(tmp_path):
    sheet = ReviewSheet(str(tmp_path), [0, 1, 3], METADATA)
    engine = Engine(lambda _, one: [one])
    sheet.attach(engine)
    engine.run([item(tmp_path, f"scan_{n}", [row(1, 0.95 - 0.05 * n)]) for n in range(8)])
    assert sheet.pictures.keys() == {f"scan_{n}" for n in range(2, 8)}


def test_a_prediction_without_a_review_writes_nothing(tmp_path):
    done = item(tmp_path, "good", [])
    del done["review"]
    sheet = ReviewSheet(str(tmp_path), [0, 1, 3], METADATA)
    engine = Engine(lambda _, one: [one])
    sheet.attach(engine)
    engine.run([done])
    assert not list(tmp_path.glob("review.*"))
