"""Shells to give commands in, with a replay server in place of the vendors."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cryptolake.replay.server import ReplayServer
from tests.cli.commands import Shell
from tests.replayed import NOON, recordings


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    """Three coins and the index over 120 days, at noon."""
    with ReplayServer.open(recordings(), as_of=NOON) as opened:
        yield opened


@pytest.fixture
def shell(tmp_path, server, capfd) -> Shell:
    """A shell whose home does not exist yet."""
    return Shell(tmp_path / "home", server, capfd)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Iterator[Shell]:
    """A shell after a daily run, for commands that change nothing."""
    with ReplayServer.open(recordings(), as_of=NOON) as server:
        shell = Shell(tmp_path_factory.mktemp("built"), server)
        assert shell.run().status == 0
        yield shell


@pytest.fixture
def lake_shell(built, capfd) -> Shell:
    """A shell with a whole lake that the command must not change."""
    return Shell(built.home, built.server, capfd)
