"""Sites that are not alike: one knows other structures and has thicker slices, one loses its weights."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import pytest
import torch

from benchmarks.federated_partial import KNOWN, write_site
from common.data.sample import make_sample_cohort
from support.bundle.run import SEMISAM
from support.clients.federation import tiny
from tools.federation.recipe import CLIENT

SPOILT = """

def spoilt(site, number, params):
    name = next(iter(params))
    return {name: params[name] * float("nan")} if (site, number) == ("south", 2) else {}


if __name__"""


@pytest.fixture
def sites(tmp_path) -> dict[str, Path]:
    """North knows the labels 1 to 3, south 3 to 5 on slices of twice the thickness."""
    whole = make_sample_cohort(tmp_path / "w", num_training=8, num_validation=0, num_test=4, spatial_size=(32, 28, 24))
    content = json.loads((whole / "dataset.json").read_text(encoding="utf-8"))
    return {name: write_site(whole, content, first, name, tmp_path / name) for first, name in enumerate(KNOWN)}


def change(site: Path, **keys) -> None:
    file = site / "dataset.json"
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | keys))


def rounds(workspace: Path) -> list[list[str]]:
    record = next((workspace / "nvflare").rglob("app_server/rounds.json"))
    return json.loads(record.read_text(encoding="utf-8"))


def test_sites_that_know_other_structures_on_other_voxels_learn_together(federate, sites):
    thin, thick = (next((site / "imagesTr").iterdir()) for site in sites.values())
    assert max(nibabel.load(thick).header.get_zooms()) > 1.5 * max(nibabel.load(thin).header.get_zooms())
    workspace, said, code = federate(SEMISAM.name, sites, {**tiny(SEMISAM), "num_labeled": None}, "--rounds", "2")
    assert code == 0, said[-3000:]
    assert rounds(workspace) == [["north", "south"]] * 2
    for name, told in (("north", "spleen 0, kidney 0"), ("south", "liver 0, portal_vessel 0")):
        assert told in said, f"the plan of {name} doesn't say {told}"
    rows = json.loads((workspace / "results.json").read_text(encoding="utf-8"))
    assert all(0 <= rows[0][name] <= 1 for name in sites)


def test_a_site_whose_labels_have_other_values_is_told_what_to_do(federate, sites):
    labels = json.loads((sites["south"] / "dataset.json").read_text(encoding="utf-8"))["labels"]
    change(sites["south"], labels={**labels, "4": labels["5"], "5": labels["4"]})
    workspace, said, code = federate(SEMISAM.name, sites, tiny(SEMISAM), "--rounds", "2")
    lines = [line for line in said.splitlines() if line.startswith("error: ")]
    assert code != 0 and len(lines) == 1 and not (workspace / "model.pt").exists()
    assert "site south has the labels" in lines[0] and "with the same values" in lines[0] and "known_labels" in lines[0]


def test_a_site_whose_training_fails_need_not_end_that_of_the_others(federate, sites):
    """South's steps are so long that its loss is no number, which its trainer ends with one line."""
    change(sites["south"], test=[])  # such a rate is refused where a site scores
    more = ("--rounds", "2", "--min-sites", "1", "--wait", "5", "--set-site", "south:learning_rate=1e30")
    workspace, said, code = federate(SEMISAM.name, sites, {**tiny(SEMISAM), "num_labeled": None}, *more)
    assert code == 0 and "warning: site south: RuntimeError: loss" in said, said[-3000:]
    assert rounds(workspace) == [["north"]] * 2 and "round 2: north; without south" in said


@pytest.mark.parametrize("least", [1, 2])
def test_updates_that_are_not_sound_are_kept_out_of_the_global_model(federate, sites, tmp_path, least):
    """South's client has lost its own check, and sends weights that are no numbers in the second round."""
    checked, spoilt = "require_numbers(name, number, params)\n", "params |= spoilt(name, number, params)\n"
    honest = CLIENT.read_text(encoding="utf-8")
    assert honest.count(f" {checked}") == 1
    client = tmp_path / "client.py"
    client.write_text(honest.replace(f" {checked}", f" {spoilt}").replace("\n\nif __name__", SPOILT))
    program = f"from pathlib import Path; from tools.federation import recipe; recipe.CLIENT = Path({str(client)!r}); "
    program += "from tools.federated_job import main; main()"
    more = ("--rounds", "3", "--min-sites", str(least), "--wait", "5")
    settings = {**tiny(SEMISAM), "num_labeled": None}
    workspace, said, code = federate(SEMISAM.name, sites, settings, *more, program=("-c", program))
    assert "left out: site south, round 2: " in said and "values that are no number" in said, said[-3000:]
    assert (code == 0) == (least == 1) == (workspace / "model.pt").is_file(), said[-3000:]
    both = ["north", "south"]
    assert rounds(workspace) == ([both, ["north"], both] if least == 1 else [both])
    if least == 1:
        model = torch.load(workspace / "model.pt", weights_only=True)
        assert all(bool(torch.isfinite(value).all()) for value in model.values())
