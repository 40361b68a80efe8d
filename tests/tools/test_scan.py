"""Whole bundles: ours pass, and what a stranger could hide in one is refused and never carried out."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from support.bundle.sources import copy_sources
from support.data.written_files import write_files
from tools.scan import main, plain, scan
from tools.scanning.findings import DEFAULT_ALLOW, read_allow_list
from tools.scanning.used import needed_list, written

ROOT = Path(__file__).parents[2]
BUNDLES = sorted(path.parents[1].name for path in ROOT.glob("bundles/*/configs/train.json"))
MARKER = "ran"  # would be made in the current folder
RUN = f"__import__('os').system('echo x > {MARKER}')"
HIDDEN_RUN = f"monai.utils.misc.os.system('echo x > {MARKER}')"  # without the word import
SHELL = {"command": f"echo x > {MARKER}"}


class Payload:
    def __reduce__(self):
        return os.system, (f"echo x > {MARKER}",)


def config(**content) -> dict[str, str]:
    return {"configs/evil.json": json.dumps(content)}


def script(text: str) -> dict[str, str]:
    return {"scripts/evil.py": text}


def logging_conf(handler: str = "class=StreamHandler\nargs=(sys.stdout,)", before: str = "") -> dict[str, str]:
    sections = "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nhandlers=h\n"
    return {"configs/logging.conf": f"{before}{sections}[handler_h]\n{handler}\n"}


def torch_file(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in {"data.pkl": pickle.dumps({}), "version": b"3", **members}.items():
            archive.writestr(f"model/{name}", content)
    return buffer.getvalue()


def zip_of(name: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, f"import os; os.system('echo x > {MARKER}')")
    return buffer.getvalue()


SAMPLES = {
    "target of a builtin": config(x={"_target_": "builtins.eval", "source": RUN}),
    "target of os": config(x={"_target_": "os.system", **SHELL}),
    "target through monai": config(x={"_target_": "monai.utils.misc.os.system", **SHELL}),
    "target through torch": config(x={"_target_": "torch.serialization.os.system", **SHELL}),
    "target through an import of our own": config(x={"_target_": "scripts.common.sam.weights.carrier.subprocess.run"}),
    "target that is not defined": config(x={"_target_": "scripts.network.nothing"}),
    "target by expression": config(x={"_target_": f"${RUN}"}),
    "target by reference": config(f="$print", x={"_target_": "@f"}),
    "target by macro": config(f="os.system", x={"_target_": "%f", **SHELL}),
    "target as an object": config(x={"_target_": {"_target_": "Compose"}}),
    "target of look-alike letters": config(x={"_target_": "mоnai.transforms.Compose"}),
    "target of monai that runs configs": config(x={"_target_": "monai.bundle.run", "config_file": "x.json"}),
    "target by an override": config(**{"network_def::_target_": "os.system", "network_def#command": "x"}),
    "target by a merge": config(**{"+network_def": {"_target_": "os.system", **SHELL}}),
    "disabled target": config(x={"_target_": "os.system", "_disabled_": "$False", **SHELL}),
    "required expression": config(x={"_target_": "Compose", "_requires_": [f"${RUN}"]}),
    "component as a callable": config(x={"_target_": "Compose", "_mode_": "callable"}),
    "component in the debugger": config(x={"_target_": "Compose", "_mode_": "debug"}),
    "component with a breakpoint": config(x={"_target_": "Compose", "_debug_": True}),
    "reader by name": config(x={"_target_": "LoadImaged", "keys": "image", "reader": "os.system", **SHELL}),
    "reader by a bare name": config(x={"_target_": "LoadImaged", "keys": "a", "reader": "open", "file": MARKER}),
    "reader by reference": config(w="os.system", x={"_target_": "LoadImaged", "reader": "@w", **SHELL}),
    "writer by name": config(writer="subprocess.Popen"),
    "expression": config(x=f"${RUN}"),
    "expression deep in lists": config(x=[[{"y": [f"${RUN}"]}]]),
    "expression in imports": config(imports=[f"${RUN}"]),
    "expression in a string literal": config(x=f"$'@and'+str({HIDDEN_RUN})", **{"and": 1}),
    "expression in a key": config(**{"b": {"a": 1}, f"b+{HIDDEN_RUN}+@b": {"a": 2, "y": "$@#a"}}),
    "expression in metadata": {"configs/metadata.json": json.dumps({"version": f"${RUN}"})},
    "expression outside of configs": {"docs/other.json": json.dumps({"x": f"${RUN}"})},
    "expression in an upper-case file": {"configs/EVIL.JSON": json.dumps({"x": f"${RUN}"})},
    "expression in a byte order mark's shadow": {
        "configs/evil.json": b"\xef\xbb\xbf" + json.dumps({"x": RUN}).encode()
    },
    "size that is evaluated": config(network_data_format={"inputs": {"image": {"spatial_shape": [RUN]}}}),
    "import of a module": config(imports=["$import subprocess"]),
    "import of a name": config(imports=["$from os import system"]),
    "import under another name": config(imports=["$import os as torch"]),
    "import of one's own": config(x="$import scripts.evil"),
    "macro of another file": config(x="%/tmp/other.json::x"),
    "path out of the bundle": config(bundle_root="../elsewhere"),
    "key that stands twice": {"configs/evil.json": '{"x": {"_target_": "os.system"}, "x": 1}'},
    "broken JSON": {"configs/evil.json": "{"},
    "deep JSON": {"configs/evil.json": "[" * 100_000},
    "YAML tag": {"configs/evil.yaml": f"x: !!python/object/apply:os.system ['echo x > {MARKER}']\n"},
    "YAML expression": {"configs/evil.yml": f'x: ["${RUN}"]\n'},
    "logging class": logging_conf(f"class={RUN}\nargs=()"),
    "logging class by name": logging_conf("class=eval\nargs=('1',)"),
    "logging class of another place": logging_conf("class=handlers.SocketHandler\nargs=('example.org', 80)"),
    "logging arguments": logging_conf(f"class=StreamHandler\nargs=({RUN},)"),
    "logging keyword arguments": logging_conf(f"class=StreamHandler\nargs=()\nkwargs={{'x': {RUN}}}"),
    "logging defaults": logging_conf("args=()", before=f"[DEFAULT]\nclass={RUN}\n"),
    "logging interpolation": logging_conf(f"class=StreamHandler\nx=', {RUN}, '\nargs=('%(x)s',)"),
    "Python that evaluates": script(f"eval({RUN!r})\n"),
    "Python that evaluates by computed name": script("x = getattr(str, '__' + 'class__')\n"),
    "Python that climbs": script("x = ().__class__.__base__.__subclasses__()\n"),
    "Python with a process": script("import subprocess\n"),
    "Python with the network": script("from urllib.request import urlopen\n"),
    "Python with sockets": script("import socket as json\n"),
    "Python with ctypes": script("def f():\n    import ctypes\n"),
    "Python with os": script(f"import os\nos.system('echo x > {MARKER}')\n"),
    "Python with os in another name": script("import os\no = os\no.remove('x')\n"),
    "Python with os by getattr": script("import os\ngetattr(os, 'system')('x')\n"),
    "Python with os of another module": script("import random\nrandom._os.system('x')\n"),
    "Python that pickles": script("class A:\n    def __reduce__(self):\n        return print, ()\n"),
    "Python that loads anything": script("import torch\ntorch.load('x', weights_only=False)\n"),
    "Python that loads by default": script("import torch\nx = torch.load('x')\n"),
    "Python in another encoding": {"scripts/evil.py": b"# coding: utf-7\nx = 1\n"},
    "Python that looks different": script("x = 'a\u202e'\n"),
    "Python in the place of a package": {"nibabel.py": "x = 1\n"},
    "Python that is not what was reviewed": {
        "scripts/common/sam/weights/carrier.py": "import subprocess\nsubprocess.run('x')\n"
    },
    "broken Python": script("def\n"),
    "compiled Python": {"scripts/__pycache__/network.cpython-311.pyc": b"\xa7\r\r\n"},
    "compiled library": {"scripts/fast.so": b"\x7fELF\x02\x01"},
    "program in disguise": {"docs/picture.png": b"\x7fELF\x02\x01"},
    "script in disguise": {"docs/notes.txt": f"#!/bin/sh\necho x > {MARKER}\n"},
    "zip in the bundle": {"docs/notes.txt": zip_of("setup.py")},
    "hook of another tool": {"hubconf.py": f"import os; os.system('echo x > {MARKER}')\n"},
    "pickle in disguise": {"docs/notes.txt": pickle.dumps(Payload(), 4)},
    "model that calls": {"models/model.pt": torch_file(**{"data.pkl": pickle.dumps(Payload(), 2)})},
    "model that calls in its constants": {
        "models/model.ts": torch_file(**{"constants.pkl": pickle.dumps(Payload(), 4)})
    },
    "model of the old format": {"models/model.pt": pickle.dumps(Payload())},
    "model with more files": {"models/model.ts": torch_file(**{"constants.pkl": b"\x80\x02).", "evil.so": b"x"})},
    "model with a config": {
        "models/model.ts": torch_file(
            **{"constants.pkl": b"\x80\x02).", "extra/inference.json": json.dumps({"x": f"${RUN}"}).encode()}
        )
    },
    "TorchScript that writes": {
        "models/model.ts": torch_file(**{"constants.pkl": b"\x80\x02).", "code/a.py": b"torch.save(x, 'y')\n"})
    },
    "safetensors that are none": {"models/model.safetensors": struct.pack("<Q", 1 << 40)},
}


@pytest.fixture(scope="module")
def allow():
    return read_allow_list()


@pytest.fixture(scope="module")
def ours(allow):
    return {bundle: scan(ROOT / "bundles" / bundle, allow, as_packed=True) for bundle in BUNDLES}


@pytest.fixture
def clean(tmp_path, monkeypatch):
    """A bundle with nothing to find, and an empty current folder in which a payload would leave its mark."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for name in ("configs", "scripts/common/sam/weights", "scripts/common/files", "docs", "models"):
        (tmp_path / "evil" / name).mkdir(parents=True)
    (tmp_path / "evil/scripts/network.py").write_text("import torch\n\n\nclass Segmenter(torch.nn.Module):\n    pass\n")
    files = ("atomic_write", "temporary")  # which the carrier of weights writes by
    for name in ("common/sam/weights/carrier.py", "common/errors.py", *(f"common/files/{file}.py" for file in files)):
        shutil.copy(ROOT / name, tmp_path / "evil/scripts" / name)
    content = {"imports": ["$import os"], "network_def": {"_target_": "scripts.network.Segmenter"}, "device": "cpu"}
    (tmp_path / "evil/configs/inference.json").write_text(json.dumps(content))
    return tmp_path / "evil"


def packed(folder: Path) -> Path:
    path = folder.with_suffix(".zip")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                archive.write(file, file.relative_to(folder.parent))
    return path


def refused(findings):
    return [finding for finding in findings if not finding.allowed]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_our_own_bundles_pass(bundle, ours):
    findings = ours[bundle]
    assert refused(findings) == []
    targets = {finding.what for finding in findings if finding.kind == "target"}
    assert {"Compose", "SupervisedEvaluator", "scripts.common.grid.preprocessing.ImagePreprocessing"} <= targets
    kinds = {finding.kind for finding in findings}
    assert {"target", "expression", "import", "logging", "python", "link"} <= kinds


@pytest.mark.parametrize("bundle", BUNDLES)
def test_our_own_bundles_pass_as_zips_without_links(bundle, allow, tmp_path):
    copy_sources(ROOT / "common", tmp_path / "common")
    linked = copy_sources(ROOT / "bundles" / bundle, tmp_path / "bundles" / bundle)
    assert refused(scan(packed(Path(shutil.copytree(linked, tmp_path / bundle))), allow)) == []


def test_our_list_is_what_our_bundles_use_and_no_more(allow, ours):
    """As `python -m tools.scan --used bundles/*` prints it."""
    sources = {}
    for bundle in BUNDLES:
        folder = ROOT / "bundles" / bundle
        sources |= {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("scripts/**/*.py")}
        common = folder / "scripts/common"
        sources |= {f"scripts/common/{p.relative_to(common).as_posix()}": p.read_bytes() for p in common.rglob("*.py")}
    assert written(needed_list(allow, sources)) + "\n" == DEFAULT_ALLOW.read_text(encoding="utf-8")


def test_the_list_that_a_bundle_needs_is_printed(clean, capsys, tmp_path):
    write_files(
        clean, {"scripts/evil.py": "import bisect, json, os\n\nx = json.loads\ny = bisect.bisect\nz = os.system\n"}
    )
    assert main([str(clean), "--used"]) == 0
    out, err = capsys.readouterr()
    needed = json.loads(out)
    assert needed["targets"] == ["scripts.network.Segmenter"]
    names = needed["python"]["names"]
    assert (names["json"], names["torch.nn"], names["bisect"]) == (["loads"], ["Module"], ["bisect"])
    assert "system" not in names["os"] and "numpy" not in names
    assert "+ names: bisect.bisect  scripts/evil.py" in err.splitlines()
    assert "! names: os.system  scripts/evil.py" in err and "- targets: UNet" in err.splitlines()
    (tmp_path / "own.json").write_text(out)
    assert main([str(clean), "--allow", str(tmp_path / "own.json")]) == 1
    refused_still = [line for line in capsys.readouterr().out.splitlines() if line.startswith("REFUSED")]
    assert len(refused_still) == 1 and "os.system" in refused_still[0]


def test_a_clean_bundle_is_clean(clean, allow):
    assert refused(scan(clean, allow)) == refused(scan(packed(clean), allow)) == []


@pytest.mark.parametrize("form", ["folder", "zip"])
@pytest.mark.parametrize("sample", SAMPLES)
def test_malicious_samples_are_refused_and_never_run(sample, form, clean, capsys):
    write_files(clean, SAMPLES[sample])
    status = main([str(clean if form == "folder" else packed(clean))])
    out = capsys.readouterr().out
    assert status == 1
    (path,) = SAMPLES[sample]
    assert any(line.startswith("REFUSED") and path in line for line in out.splitlines()), out
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize("expression", [RUN, HIDDEN_RUN])
def test_the_payload_bites(expression, clean):
    """The marker tells: were the samples evaluated, it would be there."""
    import monai

    eval(expression, {"monai": monai})
    assert [path.name for path in Path.cwd().iterdir()] == [MARKER]


def test_what_the_samples_do_in_monai(clean):
    """The attacks that look least like one are real: MONAI carries them out."""
    from monai.bundle import ConfigParser

    for name, key in (
        ("expression in a string literal", "x"),
        ("reader by reference", "x"),
        ("expression in a key", ""),
    ):
        content = json.loads(SAMPLES[name]["configs/evil.json"])
        key = key or f"{list(content)[1]}::y"
        content["x"] = {"keys": "image", **content["x"]} if isinstance(content.get("x"), dict) else content.get("x")
        with pytest.warns(UserWarning) if name == "reader by reference" else pytest.MonkeyPatch.context():
            try:
                ConfigParser(content).get_parsed_content(key)
            except RuntimeError:
                pass  # after the payload
        assert Path(MARKER).exists(), name
        Path(MARKER).unlink()


def test_links_and_special_files_are_refused_and_not_followed(clean, allow, tmp_path):
    write_files(tmp_path / "outside", {"evil.py": "import subprocess\n"})
    (clean / "scripts/linked").symlink_to(tmp_path / "outside")
    (clean / "docs/passwd.txt").symlink_to("/etc/passwd")
    os.mkfifo(clean / "docs/pipe.txt")
    (clean / "docs/run.txt").write_text("x")
    (clean / "docs/run.txt").chmod(0o755)
    found = {(finding.kind, finding.where) for finding in refused(scan(clean, allow))}
    assert found == {
        *(("link", "scripts/linked"), ("link", "docs/passwd.txt")),
        *(("file", "docs/pipe.txt"), ("file", "docs/run.txt")),
    }


def test_what_is_not_packed_is_left_out_only_when_asked(clean, allow):
    write_files(clean, {"scripts/__pycache__/a.pyc": b"x", "eval/run.json": "{}", "models/train.checkpoint.pt": b"x"})
    assert {finding.where for finding in refused(scan(clean, allow))} == {
        *("scripts/__pycache__/a.pyc", "eval/run.json", "models/train.checkpoint.pt")
    }
    assert refused(scan(clean, allow, as_packed=True)) == []


def test_exit_codes_and_json(clean, capsys, tmp_path):
    assert main([str(clean), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["allowed"] and {"kind", "where", "what", "reason", "allowed"} == set(content["findings"][0])
    narrow = tmp_path / "narrow.json"
    narrow.write_text(json.dumps({"files": ["configs/*"]}))
    assert main([str(clean), "--allow", str(narrow)]) == 1
    (tmp_path / "no.zip").write_bytes(b"PK\x03\x04 and no more")
    (tmp_path / "empty").mkdir()
    for path in ("no.zip", "nothing", "empty"):
        assert main([str(tmp_path / path)]) == 2
    assert main([str(clean), "--allow", str(tmp_path / "no.zip")]) == 2
    assert "wanted" in capsys.readouterr().err


def test_needs_neither_monai_nor_torch(clean):
    code = "import sys; from tools.scan import main; main(sys.argv[1:]); "
    code += "sys.exit('torch' in sys.modules or 'monai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, str(clean)], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_report_takes_no_command_from_a_bundle():
    assert plain("a\x1b[2Jb\u202e\nо") == "a\\x1b[2Jb\\u202e\\n\\u043e"
    assert len(plain("x" * 10_000)) < 400
