"""Run the dbt project in this process, on a lake."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock, Thread
from typing import TYPE_CHECKING, Any, cast

import structlog

from cryptolake.errors import CommitConflictError, OperatorError

if TYPE_CHECKING:
    from dbt.artifacts.schemas.run import RunExecutionResult
    from dbt.contracts.graph.manifest import Manifest

    from cryptolake.lake import Committed, Lake

PROJECT = Path(__file__).parent / "dbt"
QUIET = (
    *("--quiet", "--no-print", "--no-use-colors", "--log-level", "none", "--log-level-file", "none"),
    *("--no-version-check", "--no-send-anonymous-usage-stats"),
    *("--no-write-json", "--no-populate-cache", "--static-parser"),
    *("--warn-error-options", json.dumps({"error": ["NoNodesForSelectionCriteria"]})),
)
TRIES = 3
"""How often models are run when other processes commit to their tables meanwhile."""
NOTHING_SELECTED = "does not match any enabled nodes"

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


class Transform:
    """
    Bronze to silver to gold, by dbt.

    The project is parsed once in a process; what an earlier process left under *target_path* makes
    that quick. dbt writes nowhere else.
    """

    def __init__(self, target_path: Path) -> None:
        self._target_path = target_path
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
    ) -> list[ModelRun]:
        """
        Bring silver and gold of *lake* up to its bronze; return what each model did, as they ended.

        Args:
            lake: with bronze tables; without any there is nothing to do.
            now: the time of the run, gold's `_loaded_at`.
            select: names of models, in dbt's selection syntax; all by default.
            full_refresh: build from all of bronze, not only from what is new.
            tests: also run the project's data tests, each after its model.

        Raises:
            OperatorError: a model failed, a test did not hold, or there is no model of a selected name.
        """
        command = ["build", "--exclude-resource-type", "unit_test"] if tests else ["run"]
        selected = ["--select", *select] if select else []
        return self._on(lake, [*command, *selected, *(["--full-refresh"] if full_refresh else [])], now)

    def _on(self, lake: Lake, arguments: Sequence[str], now: datetime) -> list[ModelRun]:
        from cryptolake.transform.iceberg_plugin import serving

        manifest = self._parsed()
        sources = sorted(f"{s.schema}.{s.name}" for s in manifest.sources.values())
        models = sorted(f"{n.schema}.{n.name}" for n in manifest.nodes.values() if n.resource_type == "model")
        if not any(lake.exists(name) for name in sources):
            return []
        for tries_left in reversed(range(TRIES)):
            with _dbt_is_running, self._alone(), serving(lake, [*sources, *models]) as session:
                variables = {"now": now.astimezone(UTC).isoformat(sep=" "), "built": session.built}
                success, result, error = self._invoke([*arguments, "--vars", json.dumps(variables)], manifest)
            if tries_left and any(isinstance(e, CommitConflictError) for e in session.failed.values()):
                log.info(
                    "transform.again", reason="another process committed meanwhile", tries_left=tries_left
                )
                continue
            break
        for failure in session.failed.values():
            raise failure
        if error is not None:
            raise _refusal(error, models) from error
        if not success:
            raise OperatorError(_failures(cast("RunExecutionResult", result)))
        return [_model_run(r, session.committed) for r in cast("RunExecutionResult", result).results]

    def _preload(self) -> None:
        with suppress(Exception):  # the run comes upon what went wrong again, and says so
            self._parsed(wait=False)

    def _parsed(self, *, wait: bool = True) -> Manifest:
        with self._parsing:
            if self._manifest is None:
                with _dbt_is_running, self._alone(wait=wait):
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
    def _alone(self, *, wait: bool = True) -> Iterator[None]:
        """
        Wait for other processes that transform for the same home.

        They share what dbt leaves there; and a model whose inputs are older than another process's
        must not commit after it. The lock goes when its process does, however that ends.
        """
        self._target_path.mkdir(parents=True, exist_ok=True)
        with (self._target_path / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait:
                    raise
                log.info("transform.waiting", reason="another process transforms", lock=lock.name)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield


@contextmanager
def _without_dbt_variables() -> Iterator[None]:
    """Hide `DBT_*` variables inside the block: what they ask of other projects (`DBT_EMPTY`, `DBT_TARGET`) is not meant for ours."""
    hidden = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("DBT_")}
    try:
        yield
    finally:
        os.environ.update(hidden)


def _refusal(error: BaseException, models: Sequence[str]) -> BaseException:
    if NOTHING_SELECTED in str(error):
        known = ", ".join(name.split(".")[1] for name in models)
        return OperatorError(f"{_one_line(error).removeprefix('Compilation Error ')}; the models are {known}")
    return error if isinstance(error, KeyboardInterrupt) else OperatorError(f"dbt: {_one_line(error)}")


def _failures(result: RunExecutionResult) -> str:
    failed = [r for r in result.results if r.status in {"error", "fail"}]
    return "; ".join(f"{r.node.resource_type} {r.node.name} failed: {_one_line(r.message)}" for r in failed)


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
