"""A capture that is lied to, cut off, refused and killed ends with what an undisturbed one has."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cryptolake.transform.run import Transform
from tests.faults import plans
from tests.faults.judging import faults_of, table_faults
from tests.faults.plans import Plan
from tests.faults.suffering import Suffered, suffer

FEW_TRADES, MANY_TRADES = 1_600, 10_000
SHORT_TAPE = 264
"""All four venues, with ids that nobody can have and ids that do not exist."""
SCHEDULES, TAPES = 104, 13

Tables = dict[str, pa.Table]


@pytest.fixture(scope="session")
def transform(tmp_path_factory) -> Transform:
    """The models' runner, which parses its project once."""
    return Transform(tmp_path_factory.mktemp("dbt"))


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory, transform) -> Callable[[Plan], Tables]:
    """Return silver and gold as they are after the same trades without a fault; made once for all processes."""
    folder: Path = tmp_path_factory.getbasetemp()
    shared = (folder.parent if folder.name.startswith("popen") else folder) / "undisturbed"

    def tables(plan: Plan) -> Tables:
        kept = shared / f"{plan.tape}-{plan.trades}"
        kept.mkdir(parents=True, exist_ok=True)
        with (kept / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (kept / "whole").exists():
                calm = suffer(plans.undisturbed(plan), kept / "home", transform)
                assert all_faults(calm) == []
                for name, table in calm.tables.items():
                    pq.write_table(table, kept / f"{name}.parquet")
                (kept / "whole").touch()
        return {path.stem: pq.read_table(path) for path in kept.glob("*.parquet")}

    return tables


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1049, 1097], ids="seed_{}".format)
def test_two_schedules_of_faults_end_with_the_truth(seed, undisturbed, transform, tmp_path, record_property):
    """After faults and kills all that can be had is held once, all else is an open gap, and the tables are as if nothing was."""
    assert_faults_do_no_harm(
        plans.plan(seed, SHORT_TAPE, FEW_TRADES), undisturbed, transform, tmp_path, record_property
    )


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(SCHEDULES), ids="seed_{}".format)
def test_a_hundred_schedules_of_faults_end_with_the_truth(
    seed, undisturbed, transform, tmp_path, record_property
):
    """The same over a million trades, with more than fifty kills."""
    assert_faults_do_no_harm(
        plans.plan(seed, seed % TAPES, MANY_TRADES), undisturbed, transform, tmp_path, record_property
    )


def assert_faults_do_no_harm(plan: Plan, undisturbed, transform, folder: Path, record_property) -> None:
    """Let *plan* happen in a home of its own, which is kept if anything is wrong, and judge what is in its lake."""
    expected = undisturbed(plan)
    suffered = suffer(plan, folder / "home", transform)
    wrong = all_faults(suffered) + table_faults(suffered.tables, expected)
    assert not wrong, "\n".join([f"{plan}", f"home: {folder / 'home'}", *wrong])
    for name, count in {"trades": suffered.trades, "kills": suffered.kills, **suffered.faults}.items():
        record_property(name, count)
    shutil.rmtree(folder / "home")


def all_faults(suffered: Suffered) -> list[str]:
    """Return what is wrong in bronze, and with the ids in silver, for every instrument."""
    silver = suffered.silver_ids()
    wrong = []
    for key, truth in suffered.truth.items():
        wrong += [f"{' '.join(key)}: {what}" for what in faults_of(suffered.bronze[key], truth)]
        if sorted(silver.get(key, [])) != truth.available:
            wrong.append(f"{' '.join(key)}: silver.trades does not have each id that can be had once")
    return wrong
