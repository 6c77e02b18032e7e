"""The `unwind` command."""

from typing import Annotated

import typer

from unwind.cli.check import check
from unwind.cli.circuits import circuits
from unwind.cli.dead_letters import dead_letters
from unwind.cli.diagram import diagram
from unwind.cli.doctor import doctor
from unwind.cli.keys import keys
from unwind.cli.migrate import migrate
from unwind.cli.sagas import sagas
from unwind.cli.terminal import Program, version_of
from unwind.cli.workers import workers

# Plain tracebacks: the pretty ones may show the values of variables, and keys and passwords are among them.
app = typer.Typer(name="unwind", cls=Program, invoke_without_command=True, pretty_exceptions_enable=False)
app.add_typer(migrate)
app.add_typer(keys)
app.add_typer(sagas)
app.command()(check)
app.add_typer(circuits)
app.add_typer(dead_letters)
app.add_typer(workers)
app.command()(diagram)
app.command()(doctor)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"unwind {version_of('unwind')}")
        raise typer.Exit


@app.callback()
def unwind(
    context: typer.Context,
    _: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Durable sagas: every saga that is accepted ends, completed or completely undone."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
