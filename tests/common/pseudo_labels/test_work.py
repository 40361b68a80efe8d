from __future__ import annotations

from hashlib import sha256

import numpy as np
import pytest
import torch

from common.grid.grid import make_grid
from common.pseudo_labels.work import CaseWork, settings_digest
from support.process.rank import act_as

CASES = [{"case": f"case_{n}"} for n in range(5)]
GRID = make_grid((8, 8, 4), (1, 1, 2.5), (0, 1, 4))


def do(work: CaseWork, bank: str = "labels", until: int = 99) -> list[str]:
    """Label the cases, killed once `until` are there, and return those that were worked on."""
    done = []
    for item in work.each(CASES, work.bank(bank)):
        if len(done) == until:
            raise KeyboardInterrupt
        work.bank(bank).save(item["case"], {"label": torch.ones(1)})
        done.append(item["case"])
    return done


def files(folder) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.safetensors")}


# --- identity


def test_the_digest_is_of_what_stands_for_the_settings():
    text = "({'spatial_size': [8, 8, 4], 'pixdim': [1.0, 1.0, 2.5], 'label_values': [0, 1, 4]}, 0.5)"
    assert settings_digest((GRID.as_dict(), 0.5)) == sha256(text.encode()).hexdigest()[:8]
    values = np.array([[1.5, -2.0]], dtype=np.float32)
    both = sha256(b"'share'" + values.tobytes()).hexdigest()[:8]
    assert settings_digest("share", torch.tensor([[1.5, -2.0]], dtype=torch.float64, requires_grad=True)) == both


def test_folders_have_the_names_they_had_before():
    """A run that an earlier version began is found again."""
    assert settings_digest(GRID.as_dict()) == "6d5dc0f6"


def test_other_settings_are_another_folder_and_stay(tmp_path):
    do(CaseWork(tmp_path, "one"))
    assert do(CaseWork(tmp_path, "two", resume=True)) == [item["case"] for item in CASES]
    assert do(CaseWork(tmp_path, "one", resume=True)) == []
    assert {name.split("/")[0] for name in files(tmp_path)} == {"one", "two"}


# --- what is there already


def test_a_resumed_run_makes_what_is_missing(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        do(CaseWork(tmp_path, "one"), until=2)
    resumed = CaseWork(tmp_path, "one", resume=True)
    resumed.remove_stale(of_all_settings=True)  # does nothing
    assert [item["case"] for item in resumed.missing(CASES, resumed.bank("labels"))] == ["case_2", "case_3", "case_4"]
    assert do(resumed) == ["case_2", "case_3", "case_4"] and do(resumed, "other") == [item["case"] for item in CASES]
    assert len(do(CaseWork(tmp_path, "one"))) == 5  # not resumed: everything anew


@pytest.mark.parametrize(("everything", "left"), [(False, {"two/labels", "two"}), (True, set())])
def test_a_new_run_removes_what_an_earlier_one_left(everything, left, tmp_path):
    for identity in ("one", "two"):
        for bank in ("", "labels"):
            do(CaseWork(tmp_path, identity), bank)
    (tmp_path / "one" / "stage_1.pt").touch()
    (tmp_path / "other.safetensors").touch()  # no identity's
    CaseWork(tmp_path, "one").remove_stale(everything)
    assert {name.rsplit("/", 1)[0] for name in files(tmp_path)} == left | {"other.safetensors"}
    assert (tmp_path / "one" / "stage_1.pt").exists()
    CaseWork(tmp_path / "nowhere", "one").remove_stale(everything)
    assert not (tmp_path / "nowhere").exists()


# --- several processes


def test_two_processes_share_the_cases_and_wait_for_each_other(tmp_path, monkeypatch):
    done, waited = {}, []
    for rank in (0, 1):
        act_as(monkeypatch, rank, 2, lambda: waited.append(len(files(tmp_path))))
        done[rank] = do(CaseWork(tmp_path, "one"))
    assert done == {0: ["case_0", "case_2", "case_4"], 1: ["case_1", "case_3"]}
    assert waited == [3, 5]


def test_what_a_killed_process_left_is_its_own_to_make(tmp_path, monkeypatch):
    """Whoever is resumed has the same share again, whatever the others have done meanwhile."""
    act_as(monkeypatch, 0, 2)
    do(CaseWork(tmp_path, "one"))
    act_as(monkeypatch, 1, 2)
    with pytest.raises(KeyboardInterrupt):
        do(CaseWork(tmp_path, "one"), until=1)
    assert do(CaseWork(tmp_path, "one", resume=True)) == ["case_3"]
    act_as(monkeypatch, 0, 2)
    assert do(CaseWork(tmp_path, "one", resume=True)) == []


def test_the_first_process_removes_and_the_others_wait_before_they_write(tmp_path, monkeypatch):
    do(CaseWork(tmp_path, "one"))
    left = []
    for rank in (1, 0):
        act_as(monkeypatch, rank, 2, lambda: left.append(len(files(tmp_path))))
        CaseWork(tmp_path, "one").remove_stale()
    assert left == [5, 0]


def test_labels_say_their_run_and_those_of_another_are_made_anew_with_a_line(tmp_path, capsys):
    folder = tmp_path / "cache" / "labels"
    (tmp_path / "cache").mkdir()
    mark = tmp_path / "cache" / "run_id"
    mark.write_text("first\n")
    do(CaseWork(folder, "one"))
    assert do(CaseWork(folder, "one", resume=True)) == []
    mark.write_text("second\n")
    bank = CaseWork(folder, "one", resume=True).bank("labels")
    damaged = bank.path(CASES[0]["case"])
    damaged.write_bytes(damaged.read_bytes()[:-3])
    assert not any(item["case"] in bank for item in CASES)
    assert do(CaseWork(folder, "one", resume=True)) == [item["case"] for item in CASES]
    said = capsys.readouterr().out
    assert f"warning: {bank.folder}: made anew for {CASES[0]['case']}, " in said and "of another run" in said
    assert do(CaseWork(folder, "one", resume=True)) == [] and not capsys.readouterr().out


def test_labels_of_an_earlier_version_which_say_no_run_are_gone_on_with(tmp_path):
    do(CaseWork(tmp_path / "labels", "one"))
    (tmp_path / "run_id").write_text("first")
    assert do(CaseWork(tmp_path / "labels", "one", resume=True)) == []
