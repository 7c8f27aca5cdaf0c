"""What the tests of this process have tried."""

from dataclasses import dataclass, field

from kills.trials import Baseline, Trial


@dataclass
class Row:
    """All trials of a command."""

    command: str
    baseline: Baseline
    trials: list[Trial] = field(default_factory=list)

    def figures(self) -> tuple[int, str, int, int, int, int]:
        """Operations and seconds of the undisturbed run; kills, full disks, how many of them came
        too late, and trials with a fault.
        """
        kills = sum(trial.fault.kind in ("kill", "late") for trial in self.trials)
        late = sum(not trial.reached for trial in self.trials)
        faults = sum(bool(trial.problems) for trial in self.trials)
        seconds = f"{self.baseline.seconds:.1f}"
        full = len(self.trials) - kills
        return self.baseline.operations, seconds, kills, full, late, faults


ROWS: dict[str, Row] = {}
