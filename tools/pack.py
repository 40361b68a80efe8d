"""Pack a bundle into one zip that runs without this repository and is the same on every build.

    python -m tools.pack bundles/NAME                   dist/NAME_vVERSION.zip
    python -m tools.pack bundles/NAME --output DIR      DIR/NAME_vVERSION.zip
    python -m tools.pack bundles/NAME --sign KEYFILE    and beside it the zip's signature, .minisig
    python -m tools.pack bundles/NAME --without-model   configs, scripts and docs alone
    python -m tools.pack bundles/NAME --pure            JSON and weights alone; the scripts as a wheel beside the zip

In it: the sources with links resolved, models/model.pt, the same weights as model.safetensors and model.ts, the
review.json that predictions are judged by where there is one, LICENSE, sbom.cdx.json, provenance.json, and SHA256SUMS
over every file. `python -m tools.unpack` checks and unpacks it; docs/distribution.md tells the rest.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from common.errors import InputError, plain_input_errors, printable
from common.files.atomic_write import replacing
from common.files.temporary import remove_leftovers
from common.launch.words import place
from common.review.knowledge import read_knowledge

from .describe_model import require_described
from .packing.archive import write_archive
from .packing.bundle_files import collect_files, read_metadata, repository_of
from .packing.checksums import FILE as SUMS
from .packing.checksums import as_text, sums_of
from .packing.model_files import add_torchscript, add_weights
from .packing.provenance import source_of, write_provenance
from .packing.pure import sha256_of, take_scripts_out
from .packing.sbom import write_sbom
from .signature import read_secret_key, sign, signature_path
from .unpack import verify

_LONGEST_PATH = 1 << 12


def pack(
    bundle: Path,
    output: Path,
    model: Path | None,
    torchscript: bool = True,
    key: Path | None = None,
    pure: bool = False,
) -> tuple[Path, list[str]]:
    """Pack a bundle; an older zip of this version is replaced at the end, or not at all.

    Args:
        bundle: its folder, `bundles/<name>` of a repository.
        output: folder for the zip; made where it is missing.
        model: model.pt; None packs none.
        torchscript: pack model.ts too.
        key: secret key to sign with; None leaves the zip unsigned.
        pure: put the scripts into a wheel, see `take_scripts_out`; model.ts, whose own copy of the configs names
            scripts, is left out.

    Returns:
        the zip, and what a user should know about it, a line each.

    Raises:
        InputError: one line for each thing that is missing or must not be packed.
    """
    files = collect_files(bundle)
    metadata = read_metadata(bundle)
    name, repository = bundle.resolve().name, repository_of(bundle)
    if key is not None and key.resolve().is_relative_to(repository):
        raise InputError(f"{key}: lies in {repository.name}; wanted a secret key outside of the repository")
    secret = None if key is None else read_secret_key(key)
    if model is not None:
        require_described(bundle, model)
    path = output / f"{name}_v{metadata['version']}{'_pure' * pure}.zip"
    with tempfile.TemporaryDirectory(prefix="pack-") as scratch:
        folder = Path(scratch) / name
        for inside, source in files.items():
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, folder / inside)
        facts = _add_model(folder, model, torchscript and not pure)
        wheel: Path | None = None
        if pure:
            output.mkdir(parents=True, exist_ok=True)
            _refuse_machine_paths(folder, (str(repository), str(Path.home()), scratch))  # in what the wheel takes, too
            wheel = take_scripts_out(folder, metadata, output)
            facts["scripts"] = {"wheel": wheel.name, "sha256": sha256_of(wheel)}
        sums = sums_of(folder)
        write_provenance(folder, metadata, source_of(bundle), sums, facts)
        write_sbom(folder, metadata, sums)
        (folder / SUMS).write_text(as_text(sums_of(folder)), encoding="utf-8", newline="\n")
        _refuse_machine_paths(folder, (str(repository), str(Path.home()), scratch))
        _place(folder, path)
    signature_path(path).unlink(missing_ok=True)  # of the zip that was there before
    if secret is not None:
        sign(path, secret)
    remarks = _remarks(bundle, facts, model)
    if wheel is not None:
        remarks = [line for line in remarks if "model.ts" not in line]
        remarks.append(f"its code: {wheel}; docs/requirements.txt in the zip has its sha256")
    return path, remarks


def _add_model(folder: Path, model: Path | None, torchscript: bool) -> dict[str, object]:
    """Add the model's files and return what provenance.json says about them."""
    if model is None:
        return {"packed": False}
    tensors = add_weights(model, folder / "models")
    known = read_knowledge(model)
    if known.model:
        known.save(folder / "models" / "model.pt")
    if torchscript:
        add_torchscript(folder)
    return {"packed": True, "tensors": tensors, "torchscript": torchscript}


def _refuse_machine_paths(folder: Path, places: tuple[str, ...]) -> None:
    """A package that names a folder of the machine it was packed on tells who packed it."""
    # "/data" or "/root" tells nothing, and is part of many other paths
    telling = [place.rstrip("/\\").encode() for place in places if len(Path(place).parts) > 2]
    forms = [place + end for place in telling for end in (b"/", b"\\")]
    problems = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        found = _first_found(file, forms)
        if found:
            inside = file.relative_to(folder.parent).as_posix()
            problems.append(f"{inside}: found the path {found.decode(errors='replace')}; wanted none of this machine")
    if problems:
        raise InputError(problems)


def _first_found(file: Path, forms: list[bytes]) -> bytes | None:
    rest = b""
    with file.open("rb") as opened:
        while block := opened.read(1 << 20):
            block = rest + block
            for form in forms:
                if form in block:
                    return form
            rest = block[-_LONGEST_PATH:]
    return None


def _place(folder: Path, path: Path) -> None:
    """Write the zip beside its place, check it as its receiver will, and move it there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_leftovers(path.parent, depth=0)
        with replacing(path) as temporary:
            write_archive(temporary, folder)
            verify(temporary)
    except OSError as error:
        raise InputError(
            f"{path}: can't be written ({error.strerror or error}); wanted a folder to write to"
        ) from error


def _remarks(bundle: Path, facts: dict[str, object], model: Path | None) -> list[str]:
    lines = []
    if not facts["packed"]:
        lines.append("no model is in it: train it, or put one at models/model.pt")
    elif not facts["torchscript"]:
        lines.append("no models/model.ts is in it")
    taken = None if model is None else model.resolve()
    kinds = (".pt", ".safetensors", ".ts")
    left = sorted(
        path.name
        for path in (bundle / "models").glob("*")
        if path.suffix in kinds and ".checkpoint" not in path.name and path.resolve() != taken
    )
    if left:
        lines.append(f"left out of models: {', '.join(left)}")
    return lines


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.pack", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("bundle", type=place, metavar="BUNDLE", help="folder of a bundle, such as bundles/rrl_medsam")
    parser.add_argument("--output", type=place, default=Path("dist"), metavar="DIR", help="for the zip, default dist")
    parser.add_argument("--model", type=place, metavar="FILE", help="default BUNDLE/models/model.pt")
    parser.add_argument("--without-model", action="store_true", help="pack no weights")
    parser.add_argument("--without-torchscript", action="store_true", help="pack no models/model.ts")
    parser.add_argument("--pure", action="store_true", help="no Python in the zip: its scripts become a wheel")
    parser.add_argument("--sign", type=place, metavar="KEYFILE", help="secret key of minisign, outside the repository")
    given = parser.parse_args(arguments)
    model = None if given.without_model else given.model or given.bundle / "models" / "model.pt"
    path, remarks = pack(given.bundle, given.output, model, not given.without_torchscript, given.sign, given.pure)
    print(f"{path}: {path.stat().st_size / 1e6:.1f} MB{', signed' if given.sign else ''}")
    print(*(f"  {printable(line)}" for line in remarks), sep="\n", end="\n" if remarks else "")
    return 0


if __name__ == "__main__":
    plain_input_errors()
    sys.exit(main())
