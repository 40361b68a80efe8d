"""Train one bundle at several sites whose data stay where they are, with NVFLARE: here as a simulation on one machine.

    python -m tools.federated_job --bundle dist/NAME_vVERSION.zip --workspace DIR \\
        --site A=DATASET_DIR --site B=DATASET_DIR --rounds 10 --local-epochs 2

Each site gets its own copy of the bundle and its own data set (a dataset.json in MSD layout). Every round each site
trains the global model for its local epochs and sends back by how much it changed the weights; these are averaged.
DIR/model.pt is the global model; `bundle run` of any copy takes it. docs/federated.md tells the rest, also what is
different between real sites.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from rich.console import Console
from rich.table import Table

from common.errors import InputError, plain_input_errors, printable
from common.files.tensor_files import atomic_save
from common.launch.words import place

from .federation.sites import Plan, Site, plan, score, train_alone, unpack_for, write_model

CLIENT = Path(__file__).parent / "federation" / "client.py"
RESULT = "server/simulate_job/app_server/FL_global_model.pt"


def make_recipe(sites: list[Site], shared: Plan, arguments: argparse.Namespace, start: Path) -> Any:
    """Return NVFLARE's recipe: federated averaging that begins with the weights in `start`.

    Args:
        sites: one without `bundle` finds its folders by its own environment (`federated_client`).
        shared: what is equal at all of them.
        arguments: rounds, local_epochs, unlabeled_from and unlabeled_weight.
        start: absolute, or where the server has it.
    """
    from nvflare.app_opt.pt.file_model_persistor import PTFileModelPersistor
    from nvflare.app_opt.pt.recipes.fedavg import FedAvgRecipe
    from nvflare.recipe.utils import set_per_site_config

    job = {
        "settings": shared.settings,
        "grid": shared.grid,
        "labels": shared.labels,
        "rounds": arguments.rounds,
        "local_epochs": arguments.local_epochs,
        "unlabeled_from": arguments.unlabeled_from,
        "unlabeled_weight": arguments.unlabeled_weight,
    }
    given = f"--job {encode(job)}"
    recipe = FedAvgRecipe(
        name="federated",
        min_clients=len(sites),
        num_rounds=arguments.rounds,
        # the server needs no code of the bundle: it adds up tensors by their names
        model_persistor=PTFileModelPersistor(source_ckpt_file_full_name=str(start.absolute()), load_device="cpu"),
        train_script=str(CLIENT),
        train_args=given,
    )
    own = {site.name: f"{given} {_folders(site)} --settings {encode(site.settings)}" for site in sites}
    set_per_site_config(recipe, {name: {"train_args": line} for name, line in own.items()})
    return recipe


def _folders(site: Site) -> str:
    """Return where a simulated site's folders are; nothing for a site without any here, which knows its own."""
    if not site.bundle.parts:
        return ""
    return f"--bundle {quote(str(site.bundle.absolute()))} --dataset_dir {quote(str(site.dataset_dir.absolute()))}"


def encode(value: Any) -> str:
    """Return JSON without a space or quote in it."""
    return quote(json.dumps(value))


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
    logs = workspace / "nvflare" / "federated"
    try:
        recipe.execute(environment)
    except RuntimeError as error:
        raise InputError(_complaints(logs, sites) or [f"{logs}: {error}"]) from error
    complaints = _complaints(logs, sites)
    if complaints:
        raise InputError(complaints)
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


def read_sites(given: list[str], own: list[str]) -> list[Site]:
    """Read `NAME=DATASET_DIR` and `NAME:KEY=VALUE`."""
    sites: dict[str, Site] = {}
    for text in given:
        name, equals, folder = text.partition("=")
        if not equals or not re.fullmatch(r"[A-Za-z0-9_.-]+", name) or name in sites or name == "server":
            raise InputError(f"--site {text}: wanted NAME=DATASET_DIR, each name once, of letters, digits, _ . -")
        sites[name] = Site(name, Path(folder).expanduser())
    if len(sites) < 2:
        raise InputError(f"--site: found {len(sites)}; wanted 2 sites or more")
    for text in own:
        name, colon, setting = text.partition(":")
        if not colon or name not in sites:
            raise InputError(f"--set-site {text}: wanted NAME:KEY=VALUE with one of {', '.join(sites)}")
        sites[name].settings.update([read_setting(setting)])
    return list(sites.values())


def main(arguments: list[str] | None = None) -> int:
    plain_input_errors()
    parser = argparse.ArgumentParser(
        prog="python -m tools.federated_job", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--bundle", type=place, required=True, metavar="FILE.zip", help="written by tools.pack")
    add("--site", action="append", default=[], metavar="NAME=DATASET_DIR", help="a site; twice or more")
    add("--workspace", type=place, required=True, metavar="DIR", help="for all that is written; new or empty")
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
    wrong = [name for name in ("rounds", "local_epochs", "unlabeled_from") if getattr(given, name) < 1]
    if wrong or given.unlabeled_weight <= 0:
        raise InputError(f"{', '.join(wrong) or 'unlabeled_weight'}: wanted more than 0")
    if given.workspace.is_dir() and any(given.workspace.iterdir()):
        raise InputError(f"{given.workspace}: not empty; wanted a new folder")
    sites = read_sites(given.site, given.set_site)
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
