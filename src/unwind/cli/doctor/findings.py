"""What the doctor finds, and how it is told."""

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec
import typer

from unwind.errors import SettingsError, UnavailableError

Verdict = Literal["ok", "warning", "failed"]
"""A warning: the work goes on, at a price. Failed: it does not, or a promise is not kept."""


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    found: str
    advice: str = ""
    """What to do; empty where nothing need be done."""


def ok(check: str, found: str, advice: str = "") -> Finding:
    """As it should be."""
    return Finding(check, "ok", found, advice)


def warning(check: str, found: str, advice: str) -> Finding:
    """The work goes on, at a price."""
    return Finding(check, "warning", found, advice)


def failed(check: str, found: str, advice: str) -> Finding:
    """It does not work, or a promise is not kept."""
    return Finding(check, "failed", found, advice)


def of_error(check: str, error: Exception) -> Finding:
    """What an error of ours says. Its text names the variable, and is free of secrets."""
    text = " ".join(str(error).split())
    if isinstance(error, SettingsError):
        found, _, advice = text.rpartition("; ")
        return failed(check, found or text, advice if found else "correct it")
    if isinstance(error, UnavailableError):
        return failed(check, text, "start it, or correct the setting that says where it is")
    return failed(check, text, "put it right, and ask again")


def tell(findings: Sequence[Finding], *, as_json: bool) -> None:
    """Print them: as a table, or as one JSON object."""
    if as_json:
        worst: Verdict = next((each for each in ("failed", "warning") if each in _verdicts(findings)), "ok")
        typer.echo(msgspec.json.encode({"verdict": worst, "findings": findings}).decode())
        return
    # Late: what is printed as JSON needs no tables.
    from unwind.cli.shown import table

    table([msgspec.to_builtins(each) for each in findings], "check", "verdict", "found", "advice")


def exit_code(findings: Sequence[Finding], *, strict: bool) -> int:
    """0: nothing failed; `strict` counts warnings as failures."""
    return int(bool({"failed", *(["warning"] if strict else [])} & set(_verdicts(findings))))


def _verdicts(findings: Sequence[Finding]) -> Iterator[Verdict]:
    return (each.verdict for each in findings)
