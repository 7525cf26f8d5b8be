"""Run the dbt project in this process, on a lake."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Lock, Thread
from typing import IO, TYPE_CHECKING, Any, cast

import structlog
from msgspec import to_builtins

from cryptolake.errors import (
    FREE_SOME_SPACE,
    CommitConflictError,
    DiskFullError,
    OperatorError,
    TransformBusyError,
)
from cryptolake.lake.lost import explanation, is_lost
from cryptolake.transform.instruments import declared_instruments

if TYPE_CHECKING:
    from dbt.artifacts.schemas.run import RunExecutionResult
    from dbt.contracts.graph.manifest import Manifest

    from cryptolake.lake import Committed, Lake
    from cryptolake.transform.iceberg_plugin import Session

PROJECT = Path(__file__).parent / "dbt"
QUIET = (
    *("--quiet", "--no-print", "--no-use-colors", "--log-level", "none", "--log-level-file", "none"),
    *("--no-version-check", "--no-send-anonymous-usage-stats"),
    *("--no-write-json", "--no-populate-cache", "--static-parser"),
    *("--warn-error-options", json.dumps({"error": ["NoNodesForSelectionCriteria"]})),
)
TRIES = 3
"""How often models are run when other processes commit to their tables meanwhile."""
TRADES = ("bronze.realtime_trades", "bronze.trade_gaps")
TRADES_TAG = "trades"
TRADES_AT_ONCE = 500_000
REFRESHED = ("trades", "held_ids", "trade_gaps", "held_ranges", "bars_1m", "fact_ohlcv")
"""The models that a running capture brings up to date every few seconds, in dbt's selection syntax."""
COVERAGE = (*REFRESHED, "coverage_daily")
"""The models that say what is held and what is missing."""
NOTHING_SELECTED = "does not match any enabled nodes"

LOOK_SECONDS = 0.1

log = structlog.get_logger(__name__)

_dbt_is_running = Lock()
"""dbt keeps flags, adapters and its event log in globals: one run at a time in a process."""


@dataclass(frozen=True)
class ModelRun:
    """What became of one model, or of one test, in a run."""

    name: str
    rows_added: int
    rows_replaced: int
    rows_removed: int
    files_rewritten: int
    seconds: float
    status: str

    def followed_by(self, later: ModelRun) -> ModelRun:
        """Return what both runs of one node did."""
        return ModelRun(
            self.name,
            self.rows_added + later.rows_added,
            self.rows_replaced + later.rows_replaced,
            self.rows_removed + later.rows_removed,
            self.files_rewritten + later.files_rewritten,
            self.seconds + later.seconds,
            later.status,
        )


class Transform:
    """
    Bronze to silver to gold, by dbt.

    The project is parsed once in a process; what an earlier process left under *target_path* makes
    that quick. dbt writes nowhere else. Of new trades about *trades_at_once* are taken at a time, which bounds
    the memory.
    """

    def __init__(self, target_path: Path, trades_at_once: int = TRADES_AT_ONCE) -> None:
        self._target_path, self._trades_at_once = target_path, trades_at_once
        self._manifest: Manifest | None = None
        self._parsing = Lock()

    def preload(self) -> None:
        """Load dbt and parse the project in the background, while other work waits for its answers."""
        Thread(target=self._preload, name="dbt-preload").start()

    def run(
        self,
        lake: Lake,
        *,
        now: datetime,
        select: Sequence[str] | None = None,
        full_refresh: bool = False,
        tests: bool = False,
        stop: Event | None = None,
    ) -> list[ModelRun]:
        """
        Bring silver and gold of *lake* up to its bronze; return what each model did, as they ended.

        Args:
            lake: with bronze tables; without any there is nothing to do.
            now: the time of the run, gold's `_loaded_at`.
            select: names of models, in dbt's selection syntax; all by default. Where there never was a
                trade, the models of trades are left out.
            full_refresh: build from all of bronze, not only from what is new.
            tests: also run the project's data tests, each after its model.
            stop: once it is set, what is being done is finished, and the rest is left to the next run.

        Raises:
            TransformBusyError: another process transforms, and *stop* is set.
            OperatorError: a model failed, a test did not hold, or there is no model of a selected name.
        """
        command = ["build", "--exclude-resource-type", "unit_test"] if tests else ["run"]
        selected = ["--select", *select] if select else []
        without = None if has_trades(lake) else TRADES_TAG
        if without:
            selected += ["--exclude", f"tag:{without}"]
        arguments, has_more = [*command, *selected], True
        done: dict[str, ModelRun] = {}
        while has_more:
            full = full_refresh and not done
            runs, has_more = self._on(lake, arguments, now, without=without, full=full, stop=stop)
            has_more = has_more and not (stop and stop.is_set())
            done |= {r.name: done[r.name].followed_by(r) if r.name in done else r for r in runs}
        return list(done.values())

    def _on(
        self,
        lake: Lake,
        arguments: Sequence[str],
        now: datetime,
        *,
        without: str | None = None,
        full: bool = False,
        stop: Event | None = None,
    ) -> tuple[list[ModelRun], bool]:
        """
        Run dbt with *arguments* on the tables of all models, or of those *without* a tag and their inputs.

        Return what became of its nodes, and whether there are new trades beyond those that one run takes.
        """
        manifest = self._parsed(stop)
        sources = sorted(f"{s.schema}.{s.name}" for s in manifest.sources.values())
        if not any(lake.exists(name) for name in sources):
            return [], False
        inputs = _inputs(manifest, without)
        tables = sorted({*inputs, *(name for of_model in inputs.values() for name in of_model)})
        for tries_left in reversed(range(TRIES)):
            with (
                _dbt_is_running,
                self._alone(stop),
                self._serving(lake, tables, inputs, full=full) as session,
            ):
                variables = {
                    "now": now.astimezone(UTC).isoformat(sep=" "),
                    **session.variables,
                    "instruments": to_builtins(declared_instruments()),
                }
                command = [*arguments, *(["--full-refresh"] if full else []), "--vars", json.dumps(variables)]
                success, result, error = self._invoke(command, manifest)
            if tries_left and any(isinstance(e, CommitConflictError) for e in session.failed.values()):
                log.info(
                    "transform.again", reason="another process committed meanwhile", tries_left=tries_left
                )
                continue
            break
        for failure in session.failed.values():
            raise failure
        if error is not None:
            refusal = _refusal(error, manifest)
            raise refusal from (error.__cause__ if refusal is error else error)
        if not success:
            raise self._failure(cast("RunExecutionResult", result), session)
        runs = [_model_run(r, session.committed) for r in cast("RunExecutionResult", result).results]
        return runs, bool(session.up_to) and any(r.name == "trades" for r in runs)

    def _failure(self, result: RunExecutionResult, session: Session) -> OperatorError:
        for lost in session.unreadable.values():
            return lost
        failed = [r for r in result.results if r.status in {"error", "fail"}]
        said = "; ".join(
            f"{r.node.resource_type} {r.node.name} failed: {_explained(r, session)}" for r in failed
        )
        if "No space left" in said:
            return DiskFullError.under(self._target_path, f". {FREE_SOME_SPACE} ({said})")
        return OperatorError(said)

    def _serving(
        self, lake: Lake, tables: Sequence[str], inputs: Mapping[str, Sequence[str]], *, full: bool
    ) -> AbstractContextManager[Session]:
        from cryptolake.transform.iceberg_plugin import serving

        return serving(lake, tables, inputs, trades_at_once=self._trades_at_once, full=full)

    def _preload(self) -> None:
        with suppress(Exception):  # the run comes upon what went wrong again, and says so
            self._parsed(_no_time_to_wait())

    def _parsed(self, stop: Event | None = None) -> Manifest:
        with self._parsing:
            if self._manifest is None:
                with _dbt_is_running, self._alone(stop):
                    success, result, error = self._invoke(["parse"], None)
                if not success:
                    raise OperatorError(f"the dbt project cannot be parsed: {error}") from error
                self._manifest = cast("Manifest", result)
            return self._manifest

    def _invoke(
        self, arguments: Sequence[str], manifest: Manifest | None
    ) -> tuple[bool, object, BaseException | None]:
        from dbt.cli.main import dbtRunner

        project = ["--project-dir", str(PROJECT), "--profiles-dir", str(PROJECT)]
        outputs = ["--target-path", str(self._target_path), "--log-path", str(self._target_path)]
        with _without_dbt_variables():
            done = dbtRunner(manifest=manifest).invoke([*QUIET, *arguments, *project, *outputs])
        return done.success, done.result, done.exception

    @contextmanager
    def _alone(self, stop: Event | None) -> Iterator[None]:
        """
        Wait for other processes that transform for the same home, until *stop* is set.

        They share what dbt leaves there; and a model whose inputs are older than another process's
        must not commit after it. The lock goes when its process does, however that ends.
        """
        self._target_path.mkdir(parents=True, exist_ok=True)
        with (self._target_path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                log.info("transform.waiting", reason="another process transforms", lock=lock.name)
                _lock(lock, stop)
            yield


def _lock(lock: IO[str], stop: Event | None) -> None:
    """Wait for *lock*; where *stop* is set first, raise `TransformBusyError`."""
    if stop is None:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return
    while not stop.wait(LOOK_SECONDS):
        with suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
    raise TransformBusyError(
        f"another process transforms ({lock.name}): what it does not see yet follows with the next `cryptolake transform`"
    )


def _no_time_to_wait() -> Event:
    stop = Event()
    stop.set()
    return stop


@contextmanager
def _without_dbt_variables() -> Iterator[None]:
    """Hide `DBT_*` variables inside the block: what they ask of other projects (`DBT_EMPTY`, `DBT_TARGET`) is not meant for ours."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("DBT_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def has_trades(lake: Lake) -> bool:
    """Say whether trades, or gaps between them, were ever landed in *lake*."""
    return any(lake.exists(name) and lake.table(name).metadata.current_snapshot_id for name in TRADES)


def _inputs(manifest: Manifest, without: str | None) -> dict[str, list[str]]:
    """Return the tables that each model reads, as `layer.table`; of models *without* a tag only, where one is given."""
    nodes = {**manifest.nodes, **manifest.sources}
    return {
        f"{n.schema}.{n.name}": [f"{nodes[i].schema}.{nodes[i].name}" for i in n.depends_on.nodes]
        for n in manifest.nodes.values()
        if n.resource_type == "model" and without not in n.config.tags
    }


def _refusal(error: BaseException, manifest: Manifest) -> BaseException:
    if NOTHING_SELECTED in str(error):
        models = sorted((n.schema, n.name) for n in manifest.nodes.values() if n.resource_type == "model")
        known = ", ".join(name for _, name in models)
        return OperatorError(f"{_one_line(error).removeprefix('Compilation Error ')}; the models are {known}")
    return (
        error
        if isinstance(error, KeyboardInterrupt | OperatorError)
        else OperatorError(f"dbt: {_one_line(error)}")
    )


def _explained(result: Any, session: Session) -> str:
    """Return why a node failed; a file that is gone or damaged is one of what it reads."""
    said, name = _one_line(result.message), f"{result.node.schema}.{result.node.name}"
    if not is_lost(said):
        return said
    read = [*session.inputs[name], name] if name in session.inputs else session.tables
    return explanation(said, among=lambda: [session.tables[table] for table in read])


def _one_line(said: object) -> str:
    return " ".join(str(said).split())


def _model_run(result: Any, committed: Mapping[str, Committed]) -> ModelRun:
    from cryptolake.lake import Committed

    did = committed.get(f"{result.node.schema}.{result.node.name}", Committed())
    return ModelRun(
        name=result.node.name,
        rows_added=did.rows_added,
        rows_replaced=did.rows_replaced,
        rows_removed=did.rows_removed,
        files_rewritten=did.files_rewritten,
        seconds=result.execution_time,
        status=str(result.status),
    )
