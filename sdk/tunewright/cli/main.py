"""The command line: each command one line into the project, heavy imports only where they are used.

Exit codes: 0 fine, 1 the work failed, 2 bad input, 3 environment, 130 interrupted. With `--json` one object stands
last on stdout and everything else goes to stderr.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import typer

from tunewright.errors import BadInput, Interrupted, TunewrightError, TunewrightWarning
from tunewright.harmless import harmless
from tunewright.secrets import redact

if TYPE_CHECKING:
    from tunewright.host import Host

app = typer.Typer(
    name="tunewright",
    help="One YAML file to a fine-tuned adapter with proof.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="Look at the rows that a spec will train on.", no_args_is_help=True)
plugins_app = typer.Typer(help="What is installed, and what of it is broken.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(plugins_app, name="plugins")
engines_app = typer.Typer(help="What asks models, and the environments that some of it needs.", no_args_is_help=True)
app.add_typer(engines_app, name="engines")

SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="The spec's YAML file.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder, a project root, or a spec.")]
SetOption = Annotated[list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override one value of the spec.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Project root; by default runs/<name>.")]
BlockOption = Annotated[list[str], typer.Option("--no-plugins", metavar="NAME", help="Leave a plugin out.")]
OnlyOption = Annotated[
    list[str], typer.Option("--only-plugins", metavar="NAME", help="Take this plugin and no other; may be repeated.")
]
EngineOption = Annotated[
    str | None,
    typer.Option("--engine", metavar="ENGINE", help="Who asks: a kind, or '{kind: NAME, …}'; by default the loader's."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


@app.callback()
def _begin(context: typer.Context) -> None:
    """One YAML file to a fine-tuned adapter with proof."""
    if context.invoked_subcommand != "validate":
        gc.enable()  # see start.py
        _warn_in_one_line()


def _warn_in_one_line() -> None:
    """Our own warnings without the place in our code; a library's as Python shows them."""
    import warnings

    plain = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if issubclass(category, TunewrightWarning):
            print(harmless(redact(f"warning: {message}")), file=sys.stderr)
        else:
            plain(message, category, filename, lineno, file, line)

    warnings.showwarning = show


def _host(blocked: list[str], only: list[str]) -> Host:
    from tunewright.host import Host

    return Host(blocked=tuple(blocked), only=tuple(only) or None)


@app.command()
def validate(
    specs: Annotated[list[Path], typer.Argument(metavar="SPEC...", help="Specs to check.")],
    form: Annotated[
        Literal["text", "json", "github"], typer.Option("--format", help="How problems are shown.")
    ] = "text",
    override: SetOption = [],
    specs_only: Annotated[
        bool, typer.Option("--specs-only", help="Pass over files that say no `apiVersion: tunewright/…`.")
    ] = False,
    blocked: BlockOption = [],
    only: OnlyOption = [],
) -> None:
    """Check specs: every problem at once, with line, column and the fix. Never imports torch."""
    from tunewright.cli.validate import those_that_are_specs, validate_all

    chosen = those_that_are_specs(specs) if specs_only else specs
    raise typer.Exit(validate_all(chosen, form, override, _host(blocked, only)))


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The project's folder: it gives the name.")],
    template: Annotated[
        str,
        typer.Option("--template", metavar="NAME", help="plain; or domain, with suites and a gate on forgetting."),
    ] = "plain",
) -> None:
    """Write a project that validates: a commented spec, rows to replace, hooks of version control."""
    from tunewright.cli.init import new_project

    new_project(folder, template)


@app.command()
def plan(
    spec: SpecArgument,
    override: SetOption = [],
    out: OutOption = None,
    blocked: BlockOption = [],
    only: OnlyOption = [],
    as_json: JsonOption = False,
    fit: Annotated[
        str | None, typer.Option("--fit", metavar="SIZE", help="Propose what to change to fit into SIZE, as 16GB.")
    ] = None,
) -> None:
    """Show what a run will do: steps, what is cached, every effective argument and who set it, memory."""
    from tunewright.cli.commands import show_plan

    raise typer.Exit(show_plan(spec, override, out, _host(blocked, only), as_json, fit))


@app.command()
def run(
    spec: SpecArgument,
    override: SetOption = [],
    out: OutOption = None,
    blocked: BlockOption = [],
    only: OnlyOption = [],
    as_json: JsonOption = False,
    rehearse: Annotated[
        bool,
        typer.Option(
            "--rehearse-resume",
            help="Only prove that a resume is exact: train a few steps, kill the training, take it up, compare.",
        ),
    ] = False,
    search: Annotated[
        list[str],
        typer.Option(
            "--search-export",
            metavar="NAME",
            help="Where this export is refused, try other options of it, at most six.",
        ),
    ] = [],
    seeds: Annotated[
        int | None,
        typer.Option("--seeds", metavar="N", min=2, help="Train under N seeds, the spec's and the next, and compare."),
    ] = None,
) -> None:
    """Run the whole pipeline; a second run reuses what is done, and takes up a training that was interrupted."""
    from tunewright.cli.commands import rehearse_resume, run_spec
    from tunewright.cli.compare import run_seeds

    if rehearse and search:
        raise BadInput("`--rehearse-resume` exports nothing to search", fix="leave `--search-export` out of it")
    if rehearse and seeds:
        raise BadInput("`--rehearse-resume` trains nothing to its end", fix="leave `--seeds` out of it")
    if seeds:
        raise typer.Exit(run_seeds(spec, override, out, _host(blocked, only), as_json, search, seeds))
    if rehearse:
        raise typer.Exit(rehearse_resume(spec, override, out, _host(blocked, only), as_json))
    raise typer.Exit(run_spec(spec, override, out, _host(blocked, only), as_json, search))


@app.command()
def quickstart(out: OutOption = None, as_json: JsonOption = False) -> None:
    """Run the embedded example: a support desk's messages to ten queues, on a small model from PyPI."""
    from tunewright.cli.commands import run_quickstart

    raise typer.Exit(run_quickstart(out, _host([], []), as_json))


@app.command()
def predict(
    run: RunArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rows to answer: .csv or .jsonl.")],
    out: Annotated[Path | None, typer.Option("--out", help="Write there; by default to stdout.")] = None,
    limit: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer; by default as in the evaluations.")
    ] = None,
    engine: EngineOption = None,
    blocked: BlockOption = [],
    only: OnlyOption = [],
) -> None:
    """Answer the rows of a file with the tuned model: csv out, one more column."""
    from tunewright.cli.commands import predict_file

    predict_file(run, file, out, limit, engine, _host(blocked, only))


@app.command()
def chat(
    run: RunArgument,
    limit: Annotated[
        int | None, typer.Option("--max-new-tokens", min=1, help="Longest answer; by default as in the evaluations.")
    ] = None,
    engine: EngineOption = None,
    blocked: BlockOption = [],
    only: OnlyOption = [],
) -> None:
    """Talk with the tuned model at the terminal."""
    from tunewright.cli.chat import chat_with

    chat_with(run, limit, engine, _host(blocked, only))


@app.command()
def show(run: RunArgument, as_json: JsonOption = False) -> None:
    """Show how a run ended: base against tuned, gates, where everything is."""
    from tunewright.cli.commands import show_run

    show_run(run, as_json)


@app.command()
def compare(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN RUN...", help="Runs: their folders, project roots, or specs.")
    ],
    why: Annotated[
        bool, typer.Option("--why", help="Of two runs: what differs between them, beside the rows that flipped.")
    ] = False,
    rows: Annotated[int, typer.Option("--rows", min=0, help="With --why, how many rows of a kind are shown.")] = 10,
    blocked: BlockOption = [],
    only: OnlyOption = [],
    as_json: JsonOption = False,
) -> None:
    """Compare the answers of runs with the first one's, item by item; with --why, say what differs between two."""
    from tunewright.cli.compare import show_compared

    show_compared(runs, why, rows, _host(blocked, only), as_json)


@app.command()
def report(run: RunArgument) -> None:
    """Print where a run's report is."""
    from tunewright.cli.commands import report_path

    typer.echo(report_path(run))


@app.command()
def package(
    run: RunArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder to put the package in.")] = Path("dist"),
    as_json: JsonOption = False,
) -> None:
    """Copy a run's package out, as a folder and a zip, and verify it there."""
    from tunewright.cli.commands import package_run

    package_run(run, out, as_json)


@app.command()
def verify(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Packages: folders or zips.")],
    containing: Annotated[
        bool, typer.Option("--containing", help="PATHs are any files: verify each package that holds one.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Check that packages are whole: digests, tensors, identity. Refusal is exit code 1."""
    from tunewright.cli.commands import packages_of, verify_packages

    raise typer.Exit(verify_packages(packages_of(paths) if containing else paths, as_json))


@app.command()
def schema(
    out: Annotated[Path | None, typer.Option("--out", help="Write there; by default to stdout.")] = None,
) -> None:
    """JSON Schema of a spec, with the options of every installed plugin: for editors and other checkers."""
    from tunewright.cli.schema import print_schema

    print_schema(out, _host([], []))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """Say what this machine can run, and what is missing."""
    from tunewright.cli.doctor import diagnose

    raise typer.Exit(diagnose(as_json))


@data_app.command("show")
def data_show(
    spec: SpecArgument,
    tokens: Annotated[
        bool | None,
        typer.Option("--tokens/--no-tokens", help="Show the mask over the tokens; or count none, and fetch no base."),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="How many rows to show.")] = 3,
    as_json: JsonOption = False,
    override: SetOption = [],
    blocked: BlockOption = [],
    only: OnlyOption = [],
) -> None:
    """Show the rows that a spec trains on, their statistics and, with --tokens, the mask."""
    from tunewright.cli.data import show_data

    show_data(spec, override, tokens, rows, _host(blocked, only), as_json)


@data_app.command("guess")
def data_guess(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Rows: a file that an installed source reads.")],
    blocked: BlockOption = [],
    only: OnlyOption = [],
) -> None:
    """Say which format a file's columns look like: the line to paste into a spec, and what it goes by."""
    from tunewright.cli.guess import guess_format

    guess_format(file, _host(blocked, only))


@plugins_app.command("list")
def plugins_list(blocked: BlockOption = [], only: OnlyOption = [], as_json: JsonOption = False) -> None:
    """Every backend with its plugin and distribution, and what is broken and why."""
    from tunewright.cli.plugins import list_plugins

    list_plugins(_host(blocked, only), as_json)


@plugins_app.command("show")
def plugins_show(
    key: Annotated[str, typer.Argument(metavar="PART/KIND", help="As in trainer/sft.")], as_json: JsonOption = False
) -> None:
    """One backend: its options, what it offers and needs, its libraries."""
    from tunewright.cli.plugins import show_backend

    show_backend(key, _host([], []), as_json)


@plugins_app.command("new")
def plugins_new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The package's name, as in acme-tunewright.")],
    part: Annotated[str, typer.Option("--part", metavar="PART", help="As in quantizer, evaluator, data_source.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to put the package's folder in.")] = Path(),
) -> None:
    """Write a plugin that works, with its test: a package to change into one's own."""
    from tunewright.cli.scaffold import new_plugin

    new_plugin(name, part, out, _host([], []))


@engines_app.command("list")
def engines_list(blocked: BlockOption = [], only: OnlyOption = [], as_json: JsonOption = False) -> None:
    """Every engine: whether it can be used here, and where its own environment lies."""
    from tunewright.cli.engines import list_engines

    list_engines(_host(blocked, only), as_json)


@engines_app.command("install")
def engines_install(
    kind: Annotated[str, typer.Argument(metavar="NAME", help="As in llama-cpp.")],
    blocked: BlockOption = [],
    only: OnlyOption = [],
) -> None:
    """Make an engine's own environment, by venv and pip as pip is configured here; nothing where it is there."""
    from tunewright.cli.engines import install_engine

    install_engine(kind, _host(blocked, only))


def _only_typed() -> None:
    """Leave out the commands that were not typed: reading the signatures of all costs a tenth of `validate`."""
    typed = [
        command
        for command in app.registered_commands
        if getattr(command.callback, "__name__", "") == "".join(sys.argv[1:2])
    ]
    if typed:
        app.registered_commands, app.registered_groups = typed, []


def _defect() -> int:
    """Anything else that escapes is a fault of Tunewright or of a plugin: shown whole, without secrets."""
    import traceback

    print(redact(traceback.format_exc()), file=sys.stderr, end="")
    print("this is a defect of Tunewright or of a plugin named above: please report it", file=sys.stderr)
    return TunewrightError.exit_code


def main() -> None:
    """Run the command that was typed, and exit with its code."""
    _only_typed()
    try:
        code = app(standalone_mode=False)
    except TunewrightError as error:
        from tunewright.spec.problems import SpecError

        head = "" if isinstance(error, SpecError) else "error: "
        print(harmless(redact(f"{head}{error}")), file=sys.stderr)
        sys.exit(error.exit_code)
    except Interrupted as stopped:
        code = stopped.exit_code
    except Exception as error:
        if type(error).__name__ in ("Abort", "Exit"):
            sys.exit(getattr(error, "exit_code", 130))
        if hasattr(error, "format_message") and hasattr(error, "show"):  # a usage error of the command line
            error.show()
            sys.exit(BadInput.exit_code)
        sys.exit(_defect())
    if code in (130, 143):  # typer turns Ctrl-C outside of a run into the first
        print("interrupted; what was finished is kept, the same command goes on from there", file=sys.stderr)
    sys.exit(code or 0)
