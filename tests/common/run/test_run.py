from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from common.errors import InputError
from common.files.folder_lock import FILE as LOCK
from common.run.run import Run

ROOT = Path(__file__).resolve().parents[3]


def make(folder, **settings):
    names = {"bundle_root": folder, "output_dir": folder / "eval", "ckpt_dir": folder, "cache_dir": folder / "cache"}
    return Run(**{name: str(path) for name, path in names.items()} | settings)


@pytest.mark.parametrize("word", ["true", "1", "yes", "on", "True", "ON", 1, True])
def test_words_for_resume_keep_the_checkpoints_of_an_interrupted_run(tmp_path, word):
    (tmp_path / "train.checkpoint.pt").touch()
    run = make(tmp_path, resume=word)
    run.forget_checkpoints()
    assert run.resume is True and (tmp_path / "train.checkpoint.pt").exists()


def test_a_new_run_forgets_the_stages_of_the_one_before_and_nothing_else(tmp_path):
    names = ["model.pt", "distill.checkpoint.pt", "train.checkpoint.pt", "train.checkpoint.pt.previous"]
    for name in names:
        (tmp_path / name).touch()
    make(tmp_path, resume="no").forget_checkpoints()
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
    make(tmp_path / "not there").forget_checkpoints()


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"resume": "maybe"}, "resume is 'maybe'; wanted true or false"),
        ({"seed": "x"}, "seed is 'x'; wanted a whole number"),
        ({"save_every": 0}, "save_every is 0; wanted a whole number of 1 or more"),
        ({"num_workers": 1.5}, "num_workers is 1.5; wanted a whole number of 0 or more"),
    ],
)
def test_words_that_mean_nothing_are_one_line(tmp_path, settings, line):
    with pytest.raises(InputError, match=line):
        make(tmp_path, **settings)


def test_the_home_folder_and_the_manifest_that_is_made_when_it_is_wanted(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    run = make(tmp_path, output_dir="~/out", dataset_dir="~/data", device="cpu")
    assert run.output_dir == tmp_path / "out" and run.dataset_dir == str(tmp_path / "data")
    assert run.device == torch.device("cpu") and run.checkpoint("distill").name == "distill.checkpoint.pt"
    with pytest.raises(InputError, match=r"dataset\.json"):  # there is none, which building the run did not look at
        _ = run.manifest


def test_torchrun_says_which_process_this_is(tmp_path, monkeypatch):
    assert (make(tmp_path).rank, make(tmp_path).world_size) == (0, 1)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (make(tmp_path).rank, make(tmp_path).world_size) == (1, 2)


def begun(folder, keep=0.5, **settings):
    run = make(folder, **settings)
    run.manifest.note("labeller", {"keep": keep})
    run.begin()
    run.manifest.write()
    return run


def test_a_run_takes_its_folders_says_whose_labels_are_there_and_lets_go(tmp_path):
    run = begun(tmp_path)
    folders = (tmp_path, tmp_path / "eval", tmp_path / "cache")
    assert all((folder / LOCK).exists() for folder in folders)
    assert (tmp_path / "cache" / "run_id").read_text() == f"{run.id}\n" and len(run.id) == 12
    run.release()
    assert not any((folder / LOCK).exists() for folder in folders)


def test_a_run_that_is_forgotten_lets_go(tmp_path):
    begun(tmp_path)
    gc.collect()
    assert not (tmp_path / LOCK).exists()


def test_a_second_run_of_another_process_is_refused_and_leaves_all_as_it_is(tmp_path):
    program = (
        "import sys\nfrom pathlib import Path\nfrom common.run.run import Run\n"
        "run = Run('.', *[str(Path(sys.argv[1], name)) for name in ('eval', '', 'cache')])\nrun.begin()\n"
    )
    run = begun(tmp_path)
    (tmp_path / "train.checkpoint.pt").write_bytes(b"of the first")
    other = subprocess.run(
        [sys.executable, "-B", "-c", program, str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert other.returncode == 1 and f"another run writes there (process {os.getpid()} on" in other.stderr
    assert (tmp_path / "train.checkpoint.pt").read_bytes() == b"of the first" and (tmp_path / LOCK).exists()
    run.release()
    subprocess.run([sys.executable, "-B", "-c", program, str(tmp_path)], cwd=ROOT, check=True)
    assert not (tmp_path / LOCK).exists()  # let go of at its end
    assert not (tmp_path / "train.checkpoint.pt").exists()


def test_a_resumed_run_of_other_settings_is_refused_where_there_is_something_to_go_on_with(tmp_path):
    first = begun(tmp_path)
    assert begun(tmp_path, keep=0.7, resume=True).id != first.id  # nothing is lost, nothing is mixed up
    assert json.loads((tmp_path / "eval" / "run.json").read_text())["times_resumed"] == 0
    begun(tmp_path)
    (tmp_path / "train.checkpoint.pt").touch()
    with pytest.raises(InputError) as error:
        begun(tmp_path, keep=0.7, resume=True)
    assert len(error.value.problems) == 1
    assert "resume: config.labeller.keep is 0.7, was 0.5; wanted as in run.json of the run" in str(error.value)
    assert begun(tmp_path, resume=True).id == first.id
    begun(tmp_path, keep=0.7)
    assert not (tmp_path / "train.checkpoint.pt").exists()


def test_a_run_json_without_an_id_is_gone_on_with(tmp_path):
    begun(tmp_path)
    path = tmp_path / "eval" / "run.json"
    old = json.loads(path.read_text())
    del old["id"]
    path.write_text(json.dumps(old))
    (tmp_path / "train.checkpoint.pt").touch()
    assert begun(tmp_path, keep=0.7, resume=True).manifest.times_resumed == 1


def test_what_is_kept_is_said(tmp_path):
    run = begun(tmp_path)
    assert "no checkpoint yet" in run.say_kept() and run.say_kept().endswith("the same command with --resume true")
    (tmp_path / "register.checkpoint.pt").touch()
    assert run.say_kept().startswith("kept: register.checkpoint.pt;")
    run.kept = ("train", 12, 30, tmp_path / "train.checkpoint.pt")
    assert run.say_kept().startswith(f"kept: epoch 12 of 30 of stage train ({tmp_path / 'train.checkpoint.pt'});")


def test_a_folder_that_is_taken_leaves_the_others_free(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / LOCK).write_text('{"pid": 1, "host": "elsewhere", "machine": "0", "since": "2026-01-02"}')
    run = make(tmp_path)
    with pytest.raises(InputError, match="cache: a run on another machine had it last"):
        run.begin()
    assert not (tmp_path / LOCK).exists() and not (tmp_path / "eval" / LOCK).exists()


def test_what_goes_is_said(tmp_path, capsys):
    begun(tmp_path)
    assert not capsys.readouterr().out
    (tmp_path / "train.checkpoint.pt").touch()
    begun(tmp_path)
    assert "the checkpoints of an earlier run go, since resume is false" in capsys.readouterr().out
