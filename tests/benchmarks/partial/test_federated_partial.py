from __future__ import annotations

import json

import nibabel
import numpy as np

from benchmarks.federated_partial import KNOWN, print_table, write_site, write_thick
from common.data.datalist import read_datalist
from common.data.sample import make_sample_cohort


def test_each_site_has_its_own_cases_structures_and_slices(tmp_path):
    whole = make_sample_cohort(tmp_path / "w", num_training=4, num_validation=0, num_test=2, spatial_size=(20, 20, 18))
    content = json.loads((whole / "dataset.json").read_text(encoding="utf-8"))
    seen = set()
    for first, name in enumerate(KNOWN):
        found = read_datalist(write_site(whole, content, first, name, tmp_path / name))
        assert len(found.training) == 2 and len(found.test) == 1 and len(found.labels) == 6
        for case in found.training:
            assert tuple(case["known_labels"]) == KNOWN[name]
            assert set(np.unique(nibabel.load(case["label"]).dataobj)) <= {0, *KNOWN[name]}
        assert "known_labels" not in found.test[0]
        assert len(np.unique(nibabel.load(found.test[0]["label"]).dataobj)) == 6  # all of them, on thick slices too
        seen |= {case["case"] for case in found.training + found.test}
    assert len(seen) == 6


def test_thick_slices_lie_where_they_did(tmp_path):
    affine = np.array([[0.0, 0, 2, -5], [3, 0, 0, 7], [0, 1.5, 0, 1], [0, 0, 0, 1]])  # slices along the second axis
    array = np.arange(24, dtype=np.int16).reshape(2, 4, 3)
    write_thick(array, affine, 2, tmp_path / "thick.nii.gz")
    found = nibabel.load(tmp_path / "thick.nii.gz")
    assert np.array_equal(np.asarray(found.dataobj), array[:, ::2])
    assert np.allclose(found.affine @ [1, 1, 2, 1], affine @ [1, 2, 2, 1])


def test_the_table_is_over_the_cases_of_both_sites(tmp_path, capsys):
    for model in ("all_sites", "north_alone", "south_alone"):
        for name, dice in (("north", 0.5), ("south", 0.7)):
            folder = tmp_path / "scores" / f"{model}_at_{name}"
            folder.mkdir(parents=True)
            rows = [{"case": name, "label": 1, "name": "liver", "dice": dice}]
            rows += [{"case": name, "label": 2, "name": "spleen", "dice": 0.2}]
            (folder / "metrics.json").write_text(json.dumps({"rows": rows}))
    print_table(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "| model | liver | spleen | mean |" and lines[2] == "| all sites | 0.600 | 0.200 | 0.400 |"
