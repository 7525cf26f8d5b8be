"""Commands as a person gives them: in this process, or in one of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog

from cryptolake.cli.main import run
from cryptolake.demo import replay_variables, venue_variables
from cryptolake.replay.server import ReplayServer
from cryptolake.replay.venues.server import VenueServer

SCRIPT = Path(sys.executable).with_name("cryptolake")
NOON = "2024-03-16T12:00"
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Said:
    """What a command ended with and what it said."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return its output, read as JSON."""
        return json.loads(self.out)


@dataclass(frozen=True)
class Shell:
    """Where commands are given: *home* is the lake's, *server* stands for the vendors, *venues* for trading venues; *others* are settings."""

    home: Path
    server: ReplayServer | None
    captured: pytest.CaptureFixture[str] | None = None
    venues: VenueServer | None = None
    others: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """Return the settings of this shell, as environment variables."""
        variables = {"CRYPTOLAKE_HOME": str(self.home), **self.others}
        if self.server:
            variables |= replay_variables(self.server)
        if self.venues:
            variables |= venue_variables(self.venues)
        return variables

    def __call__(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> Said:
        """Run a command in this process."""
        before = [(number, signal.getsignal(number)) for number in STOPPING]
        logging = structlog.get_config()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "unraisablehook", sys.unraisablehook)
            patch.setattr(sys, "argv", ["cryptolake", *map(str, arguments)])
            for name, value in {**self.variables, **(env or {})}.items():
                patch.setenv(name, value)
            if self.captured:
                self.captured.readouterr()
            try:
                run()
                status = 0
            except SystemExit as e:
                status = e.code
            finally:
                structlog.configure(**logging)
                for number, handler in before:
                    signal.signal(number, handler)
        out, err = self.captured.readouterr() if self.captured else ("", "")
        return Said(status or 0, out, err)

    def run(self, *arguments: str | Path, as_of: str = NOON) -> Said:
        """Run the daily run at noon, or another time."""
        return self("run", "--as-of", as_of, *arguments)

    def start(self, *arguments: str | Path, **options: Any) -> subprocess.Popen[str]:
        """Start a command in a process of its own."""
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return subprocess.Popen(
            [SCRIPT, *arguments], env={**os.environ, **self.variables}, **{**pipes, **options}
        )


def redirected(shell: Shell, redirection: str, *arguments: str) -> Said:
    """Run a command whose standard files a shell has redirected, as in `2>&-`."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" "$@" {redirection}', SCRIPT, *arguments],
        env={**os.environ, **shell.variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


NO_MOUNTS = 77
"""What a script of `with_mounts` exits with if it may not mount."""
MAY_MOUNT = (("unshare", "--map-root-user", "--mount"), ("sudo", "-n", "-E", "unshare", "--mount"))


def with_mounts(script: str, *arguments: str | Path, env: Mapping[str, str]) -> Said:
    """Run the shell *script*, which may mount file systems that nobody else sees and that end with it."""
    for leave in MAY_MOUNT:
        try:
            done = subprocess.run(
                [*leave, "sh", "-c", script, "sh", *arguments],
                env={**os.environ, **env},
                capture_output=True,
                text=True,
                check=False,
            )
        except FileNotFoundError:
            continue
        if done.returncode != NO_MOUNTS and not done.stderr.startswith(("unshare:", "sudo:")):
            return Said(done.returncode, done.stdout, done.stderr)
    pytest.skip("needs leave to mount a file system: run as root, or allow user namespaces or sudo")
