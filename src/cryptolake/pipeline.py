"""
The daily run, as an ordered tuple of steps.

The command line, schedulers and tests iterate `STEPS`; each step takes a `Run` and returns what it did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import structlog

from cryptolake.ingest.landing import Ingested, Span
from cryptolake.quality.result import CheckResult

if TYPE_CHECKING:
    from datetime import datetime

    from cryptolake.clock import Clock
    from cryptolake.ingest.fear_greed import IndexSource
    from cryptolake.ingest.prices import PriceSource
    from cryptolake.lake import Lake, Maintained, Reader
    from cryptolake.transform.run import ModelRun

ORPHANS_OLDER_THAN_SECONDS = 3 * 86400
STOPS_THE_RUN = {"exists", "schema"}
"""Checks without which nothing that follows makes sense."""

log = structlog.get_logger(__name__)


class Transformer(Protocol):
    """Who builds silver and gold."""

    def preload(self) -> None:
        """Get ready in the background."""
        ...

    def run(self, lake: Lake, *, now: datetime) -> list[ModelRun]:
        """Bring silver and gold of *lake* up to its bronze."""
        ...


@dataclass(frozen=True)
class Run:
    """
    One run: the parts it uses and what was asked of it.

    The sources are opened when their step begins. *on_progress* is told (coins done, coins, rows landed).
    """

    lake: Lake
    clock: Clock
    run_id: str
    coins: Sequence[str]
    restatement_days: int
    open_prices: Callable[[], AbstractContextManager[PriceSource]]
    open_index: Callable[[], AbstractContextManager[IndexSource]]
    transformer: Transformer
    span: Span = field(default_factory=Span)
    on_progress: Callable[[int, int, int], None] = lambda *_: None

    @cached_property
    def reader(self) -> Reader:
        """SQL over the lake, opened once for all steps that check; whoever uses it refreshes it."""
        return self.lake.reader()


@dataclass(frozen=True)
class Step:
    """A named part of the run."""

    name: str
    run: Callable[[Run], Any]


@dataclass(frozen=True)
class Outcome:
    """What a step did: its own kind of result, and what is wrong in one line each."""

    step: str
    result: Any
    problems: Sequence[str] = ()
    is_final: bool = False
    """Nothing may follow: what the other steps build on is missing or has another shape."""


def ingest_prices_step(run: Run) -> Ingested:
    """Land the daily observations of all coins."""
    from cryptolake.ingest.prices import ingest_prices

    with run.open_prices() as source:
        return ingest_prices(
            run.lake,
            source,
            coins=run.coins,
            clock=run.clock,
            run_id=run.run_id,
            restatement_days=run.restatement_days,
            span=run.span,
            on_progress=run.on_progress,
        )


def ingest_fear_greed_step(run: Run) -> Ingested:
    """Land the values of the Fear & Greed index."""
    from cryptolake.ingest.fear_greed import ingest_fear_greed

    with run.open_index() as source:
        return ingest_fear_greed(
            run.lake,
            source,
            clock=run.clock,
            run_id=run.run_id,
            restatement_days=run.restatement_days,
            span=run.span,
        )


def check_step(*layers: str) -> Callable[[Run], list[CheckResult]]:
    """Return a step that runs the checks of *layers*."""

    def check(run: Run) -> list[CheckResult]:
        from cryptolake.quality.run import run_checks

        return run_checks(
            run.lake, run.reader, layers=layers, coins=run.coins, run_id=run.run_id, now=run.clock.now()
        )

    return check


def transform_step(run: Run) -> list[ModelRun]:
    """Build silver and gold from what is new in bronze."""
    return run.transformer.run(run.lake, now=run.clock.now())


def maintain_step(run: Run) -> list[Maintained]:
    """Compact, expire and clean every table."""
    return run.lake.maintain(orphans_older_than_seconds=ORPHANS_OLDER_THAN_SECONDS, dry_run=False)


INGEST = (Step("ingest.prices", ingest_prices_step), Step("ingest.fear_greed", ingest_fear_greed_step))
STEPS = (
    *INGEST,
    Step("check.bronze", check_step("bronze")),
    Step("transform", transform_step),
    Step("check.silver", check_step("silver")),
    Step("check.gold", check_step("gold")),
    Step("maintain", maintain_step),
)


def follow(steps: Sequence[Step], run: Run) -> Iterator[Outcome]:
    """
    Run *steps* in order and yield what each did, as soon as it is done.

    A failed check or a coin that could not be had is a problem of its outcome and stops nothing;
    a missing or mismatched table ends the run.
    """
    if any(step.run is transform_step for step in steps):
        run.transformer.preload()
    for step in steps:
        log.info("step.started", step=step.name, run_id=run.run_id)
        outcome = _outcome(step.name, step.run(run))
        log.info("step.ended", step=step.name, problems=len(outcome.problems))
        yield outcome
        if outcome.is_final:
            return


def _outcome(step: str, result: Any) -> Outcome:
    if isinstance(result, Ingested):
        failures: Mapping[str, str] = result.failures
        return Outcome(step, result, [f"{what}: {why}" for what, why in failures.items()])
    bad = [r for r in result if isinstance(r, CheckResult) and r.status in {"failed", "error"}]
    problems = [f"{r.table_name} {r.check_name}: {r.message}" for r in bad]
    return Outcome(step, result, problems, is_final=any(r.check_name in STOPS_THE_RUN for r in bad))
