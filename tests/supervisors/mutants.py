"""A check of the checks: one-line mistakes in the core of the library, each to be noticed.

    python -m tests.supervisors.mutants [NAME...]

For each mistake the sources are copied, one line is changed, and the tests of
the library run until the first failure. Prints who noticed it; exit 1 if a
mistake lived that is not known to be harmless.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]

#: What is asked first is what notices most.
TESTS = (
    "tests/supervisors/test_restart_pure.py",
    "tests/supervisors/test_otp_conformance.py",
    "tests/supervisors/test_supervisor.py",
    "tests/supervisors",
)

#: Seconds after which a run is taken to hang: a call that nobody will answer.
HANGS_AFTER = 240.0


@attrs.frozen
class Mutant:
    """One line of a file, and what it becomes."""

    name: str
    file: str
    old: str
    new: str
    harmless: str = ""
    """Why nobody can notice it, if so."""


R = "_restart.py"
S = "_supervisor.py"

MUTANTS = [
    Mutant(
        "transient_restarts_clean",
        R,
        "Verdict.KEEP if is_clean(exit_)",
        "Verdict.RESTART if is_clean(exit_)",
    ),
    Mutant(
        "transient_keeps_crashed",
        R,
        "if is_clean(exit_) else Verdict.RESTART",
        "if is_clean(exit_) else Verdict.KEEP",
    ),
    Mutant("permanent_is_kept", R, "return Verdict.RESTART\n", "return Verdict.KEEP\n"),
    Mutant("temporary_is_kept", R, "return Verdict.FORGET\n", "return Verdict.KEEP\n"),
    Mutant(
        "clean_end_of_permanent_is_silent",
        R,
        "restart is Restart.PERMANENT or not is_clean(exit_)",
        "not is_clean(exit_)",
    ),
    Mutant(
        "every_end_is_reported",
        R,
        "restart is Restart.PERMANENT or not is_clean(exit_)",
        "True",
    ),
    Mutant("crash_is_silent", R, "or not is_clean(exit_)", "and is_clean(exit_)"),
    Mutant(
        "brutal_shutdown_is_orderly",
        R,
        "case ShutDown(None) if not brutal:",
        "case ShutDown(None):",
    ),
    Mutant(
        "shutdown_with_reason_is_orderly",
        R,
        "case ShutDown(None) if not brutal:",
        "case ShutDown() if not brutal:",
    ),
    Mutant(
        "early_return_is_orderly",
        R,
        "return restart is not Restart.PERMANENT",
        "return True",
    ),
    Mutant(
        "early_return_is_never_orderly",
        R,
        "return restart is not Restart.PERMANENT",
        "return False",
    ),
    Mutant("kill_is_orderly", R, "return brutal\n", "return True\n"),
    Mutant("brutal_kill_is_not_orderly", R, "return brutal\n", "return False\n"),
    Mutant(
        "crash_in_cleanup_is_orderly",
        R,
        "case _:\n            return False",
        "case _:\n            return True",
    ),
    Mutant("one_for_one_is_for_all", R, "return (failed,)", "return tuple(children)"),
    Mutant(
        "one_for_all_is_for_one", R, "return tuple(children)\n", "return (failed,)\n"
    ),
    Mutant(
        "rest_without_the_failed",
        R,
        "children.index(failed) :",
        "children.index(failed) + 1 :",
    ),
    Mutant("rest_is_all", R, "children.index(failed) :", "0 :"),
    Mutant(
        "rest_is_before", R, "children.index(failed) :", ": children.index(failed) + 1"
    ),
    Mutant(
        "never_shuts_down_by_itself",
        R,
        "case AutoShutdown.ANY_SIGNIFICANT:\n            return significant",
        "case AutoShutdown.ANY_SIGNIFICANT:\n            return False",
    ),
    Mutant(
        "any_child_shuts_down",
        R,
        "case AutoShutdown.ANY_SIGNIFICANT:\n            return significant",
        "case AutoShutdown.ANY_SIGNIFICANT:\n            return True",
    ),
    Mutant("all_is_any", R, "significant and not others_alive", "significant"),
    Mutant("all_is_whoever", R, "significant and not others_alive", "not others_alive"),
    Mutant(
        "auto_shutdown_always",
        R,
        "case AutoShutdown.NEVER:\n            return False",
        "case AutoShutdown.NEVER:\n            return significant",
        harmless="a significant child under `never` is refused by `check_child`",
    ),
    Mutant(
        "one_more_restart",
        R,
        "maxlen=self.max_restarts + 1",
        "maxlen=self.max_restarts + 2",
    ),
    Mutant(
        "one_restart_less",
        R,
        "len(self._times) <= self.max_restarts",
        "len(self._times) < self.max_restarts",
    ),
    Mutant(
        "window_ends_early",
        R,
        "now - self._times[0] > self.max_seconds",
        "now - self._times[0] >= self.max_seconds",
    ),
    Mutant(
        "window_never_ends", R, "or now - self._times[0] > self.max_seconds", "or False"
    ),
    Mutant(
        "refused_restarts_are_not_counted",
        R,
        "self._times.append(now)",
        "self._times[:] if False else self._times.append(now) if len(self._times) < self.max_restarts else None",
    ),
    Mutant(
        "window_measures_the_last",
        R,
        "now - self._times[0] >",
        "now - self._times[-1] >",
    ),
    Mutant(
        "stops_in_start_order",
        S,
        "in reversed(list(self._children.values()))",
        "in list(self._children.values())",
    ),
    Mutant(
        "restart_stops_in_start_order",
        S,
        "in reversed(self._affected(child))",
        "in self._affected(child)",
    ),
    Mutant(
        "restart_keeps_temporary",
        S,
        "            await self._stop(other)\n            if other.spec.restart is Restart.TEMPORARY:",
        "            await self._stop(other)\n            if False:",
    ),
    Mutant(
        "failed_restart_goes_on",
        S,
        "                self._retry(other)\n                return",
        "                self._retry(other)",
    ),
    Mutant(
        "failed_restart_is_not_retried", S, "                self._retry(other)\n", ""
    ),
    Mutant(
        "failed_start_is_kept",
        S,
        "            self._forget(child)\n            raise child.start_failed()",
        "            raise child.start_failed()",
    ),
    Mutant(
        "start_error_is_silent",
        S,
        "emit(self.tree.on_event, StartError(child.path, child.last_exit))",
        "pass",
    ),
    Mutant(
        "ignored_temporary_is_kept",
        S,
        "if child.process is None and child.spec.restart is Restart.TEMPORARY:",
        "if False:",
    ),
    Mutant(
        "every_ignored_is_forgotten",
        S,
        "if child.process is None and child.spec.restart is Restart.TEMPORARY:",
        "if child.process is None:",
    ),
    Mutant(
        "terminated_temporary_is_kept",
        S,
        "        await self._stop(child)\n        if child.spec.restart is Restart.TEMPORARY:",
        "        await self._stop(child)\n        if False:",
    ),
    Mutant(
        "terminated_address_is_not_retired",
        S,
        "            self._forget(child)\n        else:\n            child.spec.retire()",
        "            self._forget(child)",
    ),
    Mutant(
        "restarted_child_failed_takes_calls",
        S,
        "            child.spec.retire()\n            raise child.start_failed()",
        "            raise child.start_failed()",
    ),
    Mutant(
        "running_is_already_present",
        S,
        "if known is not None and known.process is not None:",
        "if False:",
    ),
    Mutant(
        "known_is_replaced",
        S,
        "        if known is not None:\n            raise AlreadyPresent",
        "        if False:\n            raise AlreadyPresent",
    ),
    Mutant(
        "running_child_may_be_deleted",
        S,
        "        if child.process is not None:\n            raise ChildRunning",
        "        if False:\n            raise ChildRunning",
    ),
    Mutant(
        "restarting_child_may_be_deleted",
        S,
        "        if child.restarting:\n            raise ChildRestarting",
        "        if False:\n            raise ChildRestarting",
    ),
    Mutant(
        "siblings_that_are_down_count",
        S,
        "other.spec.significant and (other.process is not None or other.restarting)",
        "other.spec.significant",
    ),
    Mutant(
        "restarting_siblings_do_not_count",
        S,
        "(other.process is not None or other.restarting)",
        "other.process is not None",
    ),
    Mutant(
        "insignificant_siblings_count",
        S,
        "other.spec.significant and (other.process",
        "(other.process",
    ),
    Mutant(
        "it_counts_itself",
        S,
        "if other is not child",
        "if True",
        harmless="it has no process any more, and is not about to be restarted",
    ),
    Mutant(
        "added_child_is_not_retired",
        S,
        "if child.spec not in self._spec.children:",
        "if False:",
    ),
    Mutant(
        "count_calls_all_active",
        S,
        "active=sum(child.is_alive for child in children)",
        "active=len(children)",
    ),
    Mutant(
        "count_calls_all_workers",
        S,
        "workers=len(children) - supervisors",
        "workers=len(children)",
    ),
    Mutant(
        "forgotten_address_is_not_retired",
        S,
        "    def _forget(self, child: Child) -> None:\n        child.spec.retire()\n",
        "    def _forget(self, child: Child) -> None:\n",
    ),
]


def main(names: list[str]) -> int:
    """Try the mutants of those *names*, or all; return the exit code."""
    lived = list[Mutant]()
    if (broken := try_out(None)) is not None:
        print(f"without any mistake, this fails: {broken}")
        return 1
    chosen = [mutant for mutant in MUTANTS if not names or mutant.name in names]
    for mutant in chosen:
        witness = try_out(mutant)
        said = (
            witness
            or f"LIVED{f' (harmless: {mutant.harmless})' if mutant.harmless else ''}"
        )
        print(f"{mutant.file:<16}{mutant.name:<40}{said}", flush=True)
        if witness is None and not mutant.harmless:
            lived.append(mutant)
    print(f"{len(chosen)} mistakes, {len(lived)} lived unexplained")
    return 1 if lived else 0


def try_out(mutant: Mutant | None) -> str | None:
    """Return the first test that fails with the mistake, None if all pass."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for part in ("supervisors", "tests", "docs"):
            shutil.copytree(
                ROOT / part, copy / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        shutil.copy(ROOT / "pyproject.toml", copy)
        if mutant is not None:
            make(mutant, copy / "supervisors" / mutant.file)
        return first_failure(copy)


def make(mutant: Mutant, source: Path) -> None:
    """Write the mistake into the copy of its file."""
    text = source.read_text()
    if mutant.old not in text:
        msg = f"mutant {mutant.name}: its line is not in {mutant.file} any more"
        raise SystemExit(msg)
    source.write_text(text.replace(mutant.old, mutant.new, 1))


def first_failure(copy: Path) -> str | None:
    """Run the tests in *copy*; return the first that fails, None if all pass."""
    for tests in TESTS:
        command = [
            *(sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"),
            *("-m", "not slow", "--ignore=tests/supervisors/testing", tests),
        ]
        try:
            run = subprocess.run(
                command,
                cwd=copy,
                capture_output=True,
                text=True,
                check=False,
                timeout=HANGS_AFTER,
            )
        except subprocess.TimeoutExpired:
            return f"{tests} hangs"
        if run.returncode != 0:
            failed = [
                line for line in run.stdout.splitlines() if line.startswith("FAILED")
            ]
            return (failed or ["does not run"])[0].removeprefix("FAILED ")[:90]
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
