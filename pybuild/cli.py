"""
The commands, as Typer sees them: names, options, help. What they do is in pybuild/commands/.

``build`` is made from the table in options.py, which is also read without Typer.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final, NoReturn

import typer
from typer.main import get_command

from pybuild.failures import guarded
from pybuild.options import BUILD, Option, Values, complete

_CONTEXT: Final = {"help_option_names": ["-h", "--help"]}
# The command line of what is run is not ours to read; -h is the host name, as docker has it.
_RUN_CONTEXT: Final = {"allow_interspersed_args": False, "help_option_names": ["--help"]}

app = typer.Typer(
    help="Build OCI images and run them, without a daemon.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=_CONTEXT,
)

Names = Annotated[list[str], typer.Argument(metavar="IMAGE...", show_default=False)]
Name = Annotated[str, typer.Argument(metavar="IMAGE", show_default=False)]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print IDs or names only.")]
Format = Annotated[
    str | None, typer.Option("--format", metavar="FORMAT", help="table, json or a Go template.")
]
NoTrunc = Annotated[bool, typer.Option("--no-trunc", help="Print everything in full.")]
AllTags = Annotated[bool, typer.Option("-a", "--all-tags", help="Not built yet.", hidden=True)]
PlatformOption = Annotated[
    str | None, typer.Option("--platform", metavar="OS/ARCH", help="The platform of the image.")
]


def run_typer(argv: list[str], root: str | None) -> int:
    """The exit status of the command line *argv*, on the store of ``--root``."""
    try:
        get_command(app).main(args=argv, prog_name="pybuild", obj=root)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def _exit(action: Callable[[], int]) -> NoReturn:
    raise typer.Exit(guarded(action))


@app.callback()
def _main(
    ctx: typer.Context,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="DIR", help="The store (default: PYBUILD_ROOT)."),
    ] = None,
) -> None:
    if root is not None:
        ctx.obj = root


def _build(**values: Any) -> None:
    """Build an image from a Dockerfile and a directory."""
    context = values.pop("context")
    ctx: typer.Context = values.pop("ctx")
    _exit(lambda: _built(ctx.obj, values, context))


def _built(root: str | None, given: Values, context: str) -> int:
    from pybuild.commands.build import build_command

    values = complete(BUILD, {**given, "help": None})
    return build_command({**values, "root": values["root"] or root}, [context])


def _parameter(option: Option) -> inspect.Parameter:
    """The parameter that Typer makes an option like *option* of."""
    declared = typer.Option(*option.flags, metavar=option.metavar or None, help=option.help)
    kinds: dict[str, tuple[Any, Any]] = {
        "flag": (bool, False),
        "text": (str | None, option.default),
        "number": (int | None, None),
        "texts": (list[str] | None, None),
    }
    type_, default = kinds[option.kind]
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[type_, declared],
    )


def _build_signature() -> inspect.Signature:
    keyword = inspect.Parameter.KEYWORD_ONLY
    context = Annotated[str, typer.Argument(metavar="PATH", help="The build context.")]
    return inspect.Signature(
        [
            inspect.Parameter("ctx", keyword, annotation=typer.Context),
            inspect.Parameter("context", keyword, annotation=context),
            *(_parameter(option) for option in BUILD if option.name != "help"),
        ]
    )


vars(_build)["__signature__"] = _build_signature()
_build.__annotations__ = {
    name: parameter.annotation for name, parameter in _build_signature().parameters.items()
}
app.command("build")(_build)


@app.command("run", context_settings=_RUN_CONTEXT)
def _run(
    ctx: typer.Context,
    image: Name,
    argv: Annotated[list[str] | None, typer.Argument(metavar="[COMMAND] [ARG...]")] = None,
    env: Annotated[list[str] | None, typer.Option("-e", "--env", metavar="NAME[=VALUE]")] = None,
    env_file: Annotated[list[str] | None, typer.Option("--env-file", metavar="FILE")] = None,
    volume: Annotated[
        list[str] | None,
        typer.Option("-v", "--volume", metavar="HOST:TARGET[:ro]", help="Bind a host path."),
    ] = None,
    workdir: Annotated[str | None, typer.Option("-w", "--workdir", metavar="DIR")] = None,
    user: Annotated[str | None, typer.Option("-u", "--user", metavar="USER[:GROUP]")] = None,
    entrypoint: Annotated[str | None, typer.Option("--entrypoint", metavar="COMMAND")] = None,
    network: Annotated[str, typer.Option("--network", "--net", metavar="host|none")] = "host",
    hostname: Annotated[str, typer.Option("-h", "--hostname", metavar="NAME")] = "",
    add_host: Annotated[list[str] | None, typer.Option("--add-host", metavar="NAME:IP")] = None,
    read_only: Annotated[bool, typer.Option("--read-only", help="No writes to the root.")] = False,
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", help="Pass on standard input.")
    ] = False,
    terminal: Annotated[bool, typer.Option("-t", "--tty", help="Give it a terminal.")] = False,
    rm: Annotated[
        bool, typer.Option("--rm", help="Always so: nothing is kept of a container.")
    ] = False,
    cap_add: Annotated[list[str] | None, typer.Option("--cap-add", metavar="CAP")] = None,
    cap_drop: Annotated[list[str] | None, typer.Option("--cap-drop", metavar="CAP")] = None,
    memory: Annotated[str | None, typer.Option("-m", "--memory", metavar="BYTES")] = None,
    cpus: Annotated[float | None, typer.Option("--cpus", metavar="NUMBER")] = None,
    pids_limit: Annotated[int | None, typer.Option("--pids-limit", metavar="NUMBER")] = None,
    timeout: Annotated[
        float | None, typer.Option("--timeout", metavar="SECONDS", help="End it then.")
    ] = None,
    pull: Annotated[str, typer.Option("--pull", metavar="missing|always|never")] = "missing",
) -> None:
    """Run a command in a new container; what it writes is thrown away."""
    from pybuild.commands.run import RunOptions, run_command

    del rm
    options = RunOptions(
        image=image,
        argv=tuple(argv or ()),
        env=tuple(env or ()),
        env_files=tuple(env_file or ()),
        volumes=tuple(volume or ()),
        workdir=workdir,
        user=user,
        entrypoint=entrypoint,
        network=network,
        hostname=hostname,
        add_hosts=tuple(add_host or ()),
        read_only=read_only,
        interactive=interactive,
        terminal=terminal,
        cap_add=tuple(cap_add or ()),
        cap_drop=tuple(cap_drop or ()),
        memory=memory,
        cpus=cpus,
        pids_limit=pids_limit,
        timeout=timeout,
        pull=pull,
    )
    raise typer.Exit(run_command(ctx.obj, options))


@app.command("images")
def _images(
    ctx: typer.Context,
    repository: Annotated[str | None, typer.Argument(metavar="[REPOSITORY[:TAG]]")] = None,
    filter_: Annotated[
        list[str] | None,
        typer.Option("-f", "--filter", metavar="FILTER", help="reference=, dangling=, label=."),
    ] = None,
    format_: Format = None,
    quiet: Quiet = False,
    all_: Annotated[bool, typer.Option("-a", "--all", help="Nothing is hidden anyway.")] = False,
    digests: Annotated[bool, typer.Option("--digests", help="Show digests.")] = False,
    no_trunc: NoTrunc = False,
) -> None:
    """List images."""
    from pybuild.commands.images import images_command

    del all_
    _exit(
        lambda: images_command(
            ctx.obj,
            repository=repository,
            filters=filter_ or [],
            form=format_,
            quiet=quiet,
            digests=digests,
            no_trunc=no_trunc,
        )
    )


@app.command("inspect")
def _inspect(
    ctx: typer.Context,
    names: Names,
    format_: Annotated[str | None, typer.Option("-f", "--format", metavar="FORMAT")] = None,
) -> None:
    """Print what is known of images, as JSON."""
    from pybuild.commands.images import inspect_command

    _exit(lambda: inspect_command(ctx.obj, names=names, form=format_))


@app.command("history")
def _history(
    ctx: typer.Context,
    name: Name,
    format_: Format = None,
    quiet: Quiet = False,
    no_trunc: NoTrunc = False,
    human: Annotated[
        bool, typer.Option("-H", "--human/--no-human", help="For people.", show_default=False)
    ] = True,
) -> None:
    """Show how an image came to be."""
    from pybuild.commands.images import history_command

    _exit(
        lambda: history_command(
            ctx.obj, name=name, form=format_, quiet=quiet, no_trunc=no_trunc, human=human
        )
    )


@app.command("tag")
def _tag(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE_IMAGE[:TAG]", show_default=False)],
    target: Annotated[str, typer.Argument(metavar="TARGET_IMAGE[:TAG]", show_default=False)],
) -> None:
    """Give an image one more name."""
    from pybuild.commands.images import tag_command

    _exit(lambda: tag_command(ctx.obj, source=source, target=target))


@app.command("rmi")
def _rmi(
    ctx: typer.Context,
    names: Names,
    force: Annotated[bool, typer.Option("-f", "--force", help="With all its names.")] = False,
) -> None:
    """Remove images; prune gives back the space."""
    from pybuild.commands.images import rmi_command

    _exit(lambda: rmi_command(ctx.obj, names=names, force=force))


@app.command("pull")
def _pull(
    ctx: typer.Context,
    name: Name,
    quiet: Quiet = False,
    all_tags: AllTags = False,
    platform: PlatformOption = None,
) -> None:
    """Copy an image from a registry."""
    from pybuild.commands.registries import pull_command

    _exit(
        lambda: pull_command(ctx.obj, name=name, quiet=quiet, all_tags=all_tags, platform=platform)
    )


@app.command("push")
def _push(ctx: typer.Context, name: Name, quiet: Quiet = False, all_tags: AllTags = False) -> None:
    """Copy an image to its registry."""
    from pybuild.commands.registries import push_command

    _exit(lambda: push_command(ctx.obj, name=name, quiet=quiet, all_tags=all_tags))


@app.command("save")
def _save(
    ctx: typer.Context,
    names: Names,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="Not standard output.")
    ] = None,
) -> None:
    """Write images to a tar that docker, podman and skopeo load."""
    from pybuild.commands.archives import save_command

    _exit(lambda: save_command(ctx.obj, names=names, output=output))


@app.command("load")
def _load(
    ctx: typer.Context,
    source: Annotated[
        str | None, typer.Option("-i", "--input", metavar="FILE", help="Not standard input.")
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Take in the images of a docker or OCI archive."""
    from pybuild.commands.archives import load_command

    _exit(lambda: load_command(ctx.obj, source=source, quiet=quiet))


@app.command("import")
def _import(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="FILE|DIR|-", show_default=False)],
    name: Annotated[str | None, typer.Argument(metavar="[REPOSITORY[:TAG]]")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("-c", "--change", metavar="INSTRUCTION", help="Such as 'CMD [\"sh\"]'."),
    ] = None,
    message: Annotated[str, typer.Option("-m", "--message", metavar="TEXT")] = "",
    platform: PlatformOption = None,
) -> None:
    """Make an image of a root file system, a tar or a directory."""
    from pybuild.commands.archives import import_command

    _exit(
        lambda: import_command(
            ctx.obj,
            source=source,
            name=name,
            changes=change or [],
            message=message,
            platform=platform,
        )
    )


@app.command("prune")
def _prune(
    ctx: typer.Context,
    all_: Annotated[bool, typer.Option("-a", "--all", help="The build cache, too.")] = False,
    force: Annotated[bool, typer.Option("-f", "--force", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    filter_: Annotated[
        list[str] | None,
        typer.Option("--filter", metavar="until=AGE", help="Cache unused for so long, too."),
    ] = None,
) -> None:
    """Remove what no image and no build needs."""
    from pybuild.commands.prune import prune_command

    _exit(
        lambda: prune_command(
            ctx.obj, all_=all_, force=force, dry_run=dry_run, filters=filter_ or []
        )
    )


@app.command("version")
def _version(
    format_: Annotated[str | None, typer.Option("-f", "--format", metavar="FORMAT")] = None,
) -> None:
    """Print the version."""
    from pybuild.commands.version import version_command

    _exit(lambda: version_command(format_))
