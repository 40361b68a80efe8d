"""A provisioned NVFLARE project on loopback: real certificates, and a process for the server and for each site."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ADMIN = "admin@hospital.org"
PROJECT = """\
api_version: 3
name: project
participants:
  - {{name: localhost, type: server, org: hospital, fed_learn_port: {port}}}
{sites}
  - {{name: {admin}, type: admin, org: hospital, role: project_admin}}
builders:
  - path: nvflare.lighter.impl.workspace.WorkspaceBuilder
    args: {{template_file: [master_template.yml]}}
  - path: nvflare.lighter.impl.static_file.StaticFileBuilder
    args: {{config_folder: config}}
  - path: nvflare.lighter.impl.cert.CertBuilder
  - path: nvflare.lighter.impl.signature.SignatureBuilder
"""


@dataclass
class Project:
    """The kits of a project, and the processes that were started from them."""

    kits: Path
    environment: Mapping[str, str]
    running: dict[str, subprocess.Popen] = field(default_factory=dict)

    @property
    def admin(self) -> Path:
        return self.kits / ADMIN

    def log(self, name: str) -> str:
        file = self.kits / f"{name}.log"
        return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""

    def start(self, name: str, **variables: str) -> None:
        """Start the server (`localhost`) or a site as its start.sh does, in the foreground; `kill` ends it."""
        with (self.kits / f"{name}.log").open("ab") as said:
            self.running[name] = subprocess.Popen(
                ["bash", str(self.kits / name / "startup" / "sub_start.sh"), "--once"],
                env={**self.environment, **variables},
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a site's job is a process of its own, which goes with it
            )

    def kill(self, name: str) -> None:
        """End a site or the server at once, as a machine that loses its power."""
        self.signal(name, signal.SIGKILL)
        self.running.pop(name).wait()

    def signal(self, name: str, what: signal.Signals) -> None:
        """Send a signal to all processes of a site or the server: jobs are some of their own."""
        for file in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if os.fsencode(self.kits / name) in file.read_bytes():
                    os.kill(int(file.parent.name), what)

    def wait_for(self, name: str, words: str, patience: float = 240.0, times: int = 1) -> None:
        """Return once the log of the server or a site has these words, so many times."""
        until = time.monotonic() + patience
        while self.log(name).count(words) < times:
            ended = self.running[name].poll() is not None
            if ended or time.monotonic() > until:
                state = "ended" if ended else "goes on"
                raise TimeoutError(f"{name} {state} without {words!r}:\n{self.log(name)[-4000:]}")
            time.sleep(0.5)


def provision(python: Path, environment: Callable[..., dict[str, str]], folder: Path, *sites: str, **more: str) -> Path:
    """Let `nvflare provision` make the kits of a server on loopback, the sites and an admin; return their folder."""
    folder.mkdir(parents=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clients = "\n".join(f"  - {{name: {site}, type: client, org: hospital}}" for site in sites)
    (folder / "project.yml").write_text(PROJECT.format(port=port, sites=clients, admin=ADMIN), encoding="utf-8")
    command = [str(python.parent / "nvflare"), "provision", "-p", "project.yml", "-w", "kits", "--force"]
    subprocess.run(command, cwd=folder, env=environment(python, **more), check=True, capture_output=True, timeout=120)
    return folder / "kits" / "project" / "prod_00"


@contextlib.contextmanager
def project(kits: Path, environment: Mapping[str, str], sites: Mapping[str, Mapping[str, str]]) -> Iterator[Project]:
    """Run the server and the sites, each with its own variables, inside the `with` block."""
    found = Project(kits, environment)
    try:
        found.start("localhost")
        found.wait_for("localhost", "Server started")
        for site, variables in sites.items():
            found.start(site, **variables)
        for site in sites:
            found.wait_for(site, "Successfully registered client")
        yield found
    finally:
        for name in list(found.running):
            found.kill(name)
