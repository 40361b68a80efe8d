"""Train one bundle at several sites whose data stay where they are, with NVFLARE; first as a simulation on one machine.

    python -m tools.federated_job --bundle dist/NAME_vVERSION.zip --workspace DIR \\
        --site A=DATASET_DIR --site B=DATASET_DIR --rounds 10 --local-epochs 2

Each site gets its own copy of the bundle and its own data set (a dataset.json in MSD layout). Every round each site
trains the global model for its local epochs and sends back by how much it changed the weights; these are averaged.
DIR/model.pt is the global model; `bundle run` of any copy takes it. Between real sites, each of which knows where its
bundle and its data are, by an admin's startup kit of a provisioned project:

    python -m tools.federated_job --bundle dist/NAME_vVERSION.zip --workspace DIR --kit KIT --site A --site B \\
        --labels dataset.json --set spatial_size=[64,56,48] --set pixdim=[1.75,1.75,1.75] --set intensity_range=[0,255]

docs/federated.md tells the rest.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from common.errors import InputError, plain_input_errors, printable
from common.files.tensor_files import atomic_save
from common.launch.words import place

from .federation.agreed import agreed_plan
from .federation.provisioned import describe_rounds, left_out, read_kit, submit
from .federation.recipe import MODEL, NAME, make_recipe
from .federation.sites import Plan, Site, plan, score, train_alone, unpack_for, write_model
from .unpack import unpack

RESULT = f"server/simulate_job/app_server/{MODEL}"


def simulate(sites: list[Site], shared: Plan, arguments: argparse.Namespace) -> Path:
    """Run all rounds in NVFLARE's simulator and return the global model, `workspace`/model.pt.

    Raises:
        InputError: a site stopped, or the server has left no model; the line names the logs.
    """
    from nvflare.recipe import SimEnv

    workspace: Path = arguments.workspace
    start = workspace / "start.pt"
    atomic_save(shared.weights, start)
    recipe = make_recipe(sites, shared, arguments, start)
    environment = SimEnv(clients=[site.name for site in sites], workspace_root=str(workspace / "nvflare"))
    logs = workspace / "nvflare" / NAME
    try:
        recipe.execute(environment)
    except RuntimeError as error:
        raise InputError(_complaints(logs, sites) or [f"{logs}: {error}"]) from error
    complaints = _complaints(logs, sites)
    incomplete = [line for line in describe_rounds(logs / "server", [site.name for site in sites]) if "without" in line]
    for line in [*left_out(logs / "server"), *incomplete]:
        print(line)
    if complaints and arguments.min_sites == len(sites):
        raise InputError(complaints)
    for line in complaints:
        print(f"warning: {line}")
    if not (logs / RESULT).is_file():
        raise InputError(f"{logs}: no {Path(RESULT).name}; the logs of the server and the sites there say why")
    write_model(logs / RESULT, shared, workspace / "model.pt")
    return workspace / "model.pt"


def _complaints(logs: Path, sites: list[Site]) -> list[str]:
    """Return the `error:` lines that sites have logged."""
    found: dict[str, None] = {}
    for site in sites:
        for log in (logs / site.name).rglob("log.txt"):
            for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
                match = re.search(r"\berror: (.*)", line)
                if match:
                    found[f"site {site.name}: {match[1]}"] = None
    return list(found)


def compare(models: dict[str, Path], sites: list[Site], shared: Plan, workspace: Path) -> list[dict[str, Any]]:
    """Score every model at every site; print the table, write results.json, and return its rows."""
    rows = []
    for title, model in models.items():
        row: dict[str, Any] = {"model": title}
        for site in sites:
            folder = workspace / "scores" / f"{title.replace(' ', '_')}_at_{site.name}"
            row[site.name] = score(site, shared, model, folder)
        known = [row[site.name] for site in sites if not math.isnan(row[site.name])]
        row["mean"] = sum(known) / len(known) if known else math.nan
        rows.append(row)
    text = json.dumps([{key: _number(value) for key, value in row.items()} for row in rows], indent=2)
    (workspace / "results.json").write_text(text + "\n", encoding="utf-8")
    table = Table(title="Dice, mean of each site's test cases")
    for column in rows[0]:
        table.add_column(column, justify="left" if column == "model" else "right")
    for row in rows:
        table.add_row(*[v if isinstance(v, str) else "–" if math.isnan(v) else f"{v:.3f}" for v in row.values()])
    Console().print(table)
    return rows


def _number(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value


def read_setting(text: str) -> tuple[str, Any]:
    """Read `key=value`, the value as JSON where it is some, else as a word."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"{text}: wanted KEY=VALUE")
    try:
        return key, json.loads(value)
    except json.JSONDecodeError:
        return key, value


def read_sites(given: list[str], own: list[str], provisioned: bool = False) -> list[Site]:
    """Read `NAME=DATASET_DIR`, or `NAME` of a provisioned site, whose folders nobody else knows; `NAME:KEY=VALUE`."""
    sites: dict[str, Site] = {}
    form = "NAME alone, for with --kit a site's folders are known there," if provisioned else "NAME=DATASET_DIR,"
    for text in given:
        name, equals, folder = text.partition("=")
        sound = bool(re.fullmatch(r"[A-Za-z0-9_.-]+", name)) and name not in sites and name != "server"
        if (equals if provisioned else not folder) or not sound:
            raise InputError(f"--site {text}: wanted {form} each name once, of letters, digits, _ . -")
        sites[name] = Site(name, Path(folder).expanduser())
    if len(sites) < 2:
        raise InputError(f"--site: found {len(sites)}; wanted 2 sites or more")
    for text in own:
        name, colon, setting = text.partition(":")
        if not colon or name not in sites:
            raise InputError(f"--set-site {text}: wanted NAME:KEY=VALUE with one of {', '.join(sites)}")
        sites[name].settings.update([read_setting(setting)])
    return list(sites.values())


def between_real_sites(sites: list[Site], given: argparse.Namespace) -> int:
    """Plan by what was agreed on, send the job to the project's server, and wait for the global model."""
    read_kit(given.kit)
    bundle, _ = unpack(given.bundle, given.workspace / "bundle")
    shared = agreed_plan(bundle, dict(read_setting(text) for text in given.set), given.labels, given.start, given.seed)
    print(f"grid {shared.grid['spatial_size']} of {shared.grid['pixdim']} mm, labels {shared.labels}")
    print(f"model: {submit(sites, shared, given)}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    plain_input_errors()
    parser = argparse.ArgumentParser(
        prog="python -m tools.federated_job", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--bundle", type=place, required=True, metavar="FILE.zip", help="written by tools.pack")
    add("--kit", type=place, metavar="DIR", help="startup kit of an admin: between real sites, no simulation")
    add("--labels", type=place, metavar="FILE.json", help="with --kit: a JSON file with the sites' `labels`")
    add("--site", action="append", default=[], metavar="NAME[=DATASET_DIR]", help="a site; twice or more")
    add("--min-sites", type=int, metavar="N", help="go on while N sites send sound updates; default: all of them")
    add("--workspace", type=place, required=True, metavar="DIR", help="for all that is written; new or empty")
    add(
        "--wait", type=int, default=600, metavar="SECONDS", help="for the others, once N sites have answered in a round"
    )
    add("--rounds", type=int, default=10)
    add("--local-epochs", type=int, default=1, help="epochs of each site in a round")
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="a key of train.json, at all sites")
    add("--set-site", action="append", default=[], metavar="NAME:KEY=VALUE", help="the same, at one site")
    add("--start", type=place, metavar="model.pt", help="weights and grid to go on from")
    add("--seed", type=int, default=0, help="of the first weights")
    add("--unlabeled-from", type=int, metavar="ROUND", help="first round of sites without any label; default: halfway")
    add("--unlabeled-weight", type=float, default=0.2, help="weight of one of their steps; of a labelled site 1")
    add("--compare-own", action="store_true", help="also train each labelled site's own model, as long, and score it")
    given = parser.parse_args(arguments)
    given.unlabeled_from = given.rounds // 2 + 1 if given.unlabeled_from is None else given.unlabeled_from
    wrong = [name for name in ("rounds", "local_epochs", "unlabeled_from", "wait") if getattr(given, name) < 1]
    if wrong or given.unlabeled_weight <= 0:
        raise InputError(f"{', '.join(wrong) or 'unlabeled_weight'}: wanted more than 0")
    if given.workspace.is_dir() and any(given.workspace.iterdir()):
        raise InputError(f"{given.workspace}: not empty; wanted a new folder")
    sites = read_sites(given.site, given.set_site, given.kit is not None)
    given.min_sites = len(sites) if given.min_sites is None else given.min_sites
    if not 1 <= given.min_sites <= len(sites):
        raise InputError(f"--min-sites {given.min_sites}: wanted 1 to {len(sites)}, as there are sites")
    if given.kit is not None:
        return between_real_sites(sites, given)
    unpack_for(sites, given.bundle, given.workspace)
    shared = plan(sites, dict(read_setting(text) for text in given.set), given.start, given.seed)
    print(f"grid {shared.grid['spatial_size']} of {shared.grid['pixdim']} mm, labels {shared.labels}")
    for site in sites:
        print(f"site {site.name}: {'labelled' if site.labeled else 'no label'}, {printable(site.dataset_dir)}")
    models = {"all sites": simulate(sites, shared, given)}
    for site in sites if given.compare_own else []:
        if site.labeled:
            epochs = given.rounds * given.local_epochs
            models[f"{site.name} alone"] = train_alone(site, shared, given.bundle, given.workspace, epochs)
    compare(models, sites, shared, given.workspace)
    print(f"model: {models['all sites']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
