"""The stages of a method in their order: what has to be done before the last one can learn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ignite.distributed as idist

from ..cohorts.cohort import Cohort
from ..costs.pieces import Pieces, rehearsal
from ..errors import printable
from ..run.manifest import settings_of
from ..run.run import Run
from .stage import Stage


class Plan:
    """Base of a bundle's plan; the trainer of the last stage calls `prepare` when it runs, and a client's does too.

    Building a plan does nothing: no label is opened and nothing is learnt. A bundle's own class takes what its stages
    need, and does them in `stages`.

    Args:
        run: of the config.
        cohort: who is labelled.
        control: a plain network to compare with, see `PlainControl`; built here, where the method has learnt nothing.

    Attributes:
        parts: name -> what the stages were built with; noted in run.json.
        trainers: name -> `Stage`, in their order; the last one adds itself.
    """

    def __init__(self, run: Run, cohort: Cohort, control: Any = None, **parts: Any) -> None:
        self.run, self.control = run, control
        self.cohort: Any = cohort  # each bundle knows its own kind
        self.parts: dict[str, Any] = {"cohort": cohort, **parts}
        self.trainers: dict[str, Stage] = {part.name: part for part in parts.values() if isinstance(part, Stage)}
        self._prepared = False

    def prepare(self) -> None:
        """Check the data, then do all stages before the last one; a second call does nothing.

        Raises:
            InputError: everything that is wrong with the data set, one line a problem, before anything is done; another
                run writes into the folders, or the one to be gone on with is another one.
        """
        if self._prepared:
            return
        self.cohort.check()
        lines = self.cohort.describe_plan()
        if idist.get_rank() == 0:
            for line in lines:
                print(f"plan: {printable(line)}", flush=True)
        for name, part in {"run": self.run, **self.parts, **self.trainers}.items():
            self.run.manifest.note(name, settings_of(part))
        # findings and no settings: they are no part of the run's identity
        self.run.manifest.facts["kept_by_level"] = self.cohort.kept
        self.run.manifest.facts["intensity_range"] = self.cohort.grid.as_dict().get("intensity_range")
        self.run.begin()
        one = rehearsal()
        if one is not None:
            one.begin(self.cohort.describe_opened(), self.cohort.narrow(*one.kept))
        self.run.manifest.write()
        self.stages()
        self._prepared = True

    def run_control(self, fine: Any) -> None:
        """Train the control, after all that the method learns; nothing where there is none.

        Args:
            fine: the stage of the second level.
        """
        if self.control is not None:
            self.control.run(self, fine)

    def stages(self) -> None:
        """Do the stages before the last one, in their order."""
        raise NotImplementedError

    def measure(self, name: str, work: Callable[[], Any], share: Pieces | None = None) -> Any:
        """Return work(), counted as a stage of run.json; see `Run.measure`."""
        return self.run.measure(name, work, share)
