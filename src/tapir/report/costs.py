"""What the run has cost: time by stage, calls, tokens and money by role, and what the ledger has saved."""

from dataclasses import dataclass

from tapir.oracles.ledger_file import LEDGER, run_spending
from tapir.oracles.money import Spending, total
from tapir.report.reading import RunFiles


@dataclass(frozen=True)
class StageTime:
    """How long one stage took."""

    title: str
    seconds: float
    rows: int


@dataclass(frozen=True)
class Costs:
    """Time and money."""

    times: tuple[StageTime, ...]
    arm_seconds: float
    spending: tuple[Spending, ...]
    """By role and stage; empty for a run without paid oracles."""
    currency: str

    @property
    def seconds(self) -> float:
        """Time of all stages of the run itself; stages that ran at the same time count each."""
        return sum(one.seconds for one in self.times)

    @property
    def total(self) -> Spending:
        """All roles and stages together."""
        return total(self.spending)


def read_costs(run: RunFiles) -> Costs:
    """Time and money spent so far."""
    ran = [one for one in run.stages if one.record["recipe"].get("role") is not None]
    return Costs(
        times=tuple(StageTime(one.title, float(one.record["seconds"]), one.rows_in) for one in ran),
        arm_seconds=sum(float(one.record["seconds"]) for arm in run.arms for one in arm.stages if not one.is_shared),
        spending=tuple(run_spending(run.directory.parent / LEDGER, run.config.name)),
        currency=run.config.budget.currency,
    )
