"""RUN: the argument vector, environment and key-neutral variables of a command."""

from __future__ import annotations

from collections.abc import Mapping

from builder.dockerfile.instructions import Run as RunInstruction
from builder.lower.config import command
from builder.lower.files import inline_file
from builder.lower.state import StageState, Steps
from builder.plan import Change, InlineFile, Network, Run
from ocispec.errors import Unsupported

PIPES = "/dev/pipes"  # where BuildKit puts a heredoc that is a script of its own


def lower(
    state: StageState, item: RunInstruction, steps: Steps, proxies: Mapping[str, str]
) -> None:
    """Append the step of *item*. *proxies* are the proxy build arguments of the command line."""
    _refuse(item)
    argv, files = _argv(state, item)
    proxied = {name: value for name, value in proxies.items() if name not in state.env}
    op = Run(
        argv=tuple(argv),
        env=tuple(sorted(f"{name}={value}" for name, value in state.env.items())),
        unkeyed_env=tuple(f"{name}={value}" for name, value in sorted(proxied.items())),
        cwd=state.cwd,
        user=state.user,
        network=_network(item.network),
        stdin_files=files,
    )
    state.root = steps.add(op, (state.root,), state, item.span, item.original)
    text = " ".join([*_arguments(state), *argv])
    state.changes.append(Change(f"RUN {text} # buildkit", state.root, state.author or ""))


def _argv(state: StageState, item: RunInstruction) -> tuple[list[str], tuple[InlineFile, ...]]:
    if not item.shell:
        return list(item.argv), ()
    script = item.script
    if script is None:
        return command(state, True, [item.shell_text if item.heredocs else item.argv[0]]), ()
    if not script.text.startswith("#!"):
        return command(state, True, [script.text]), ()
    file = inline_file(script.name, script.text, 0o755)
    return [f"{PIPES}/{script.name}"], (file,)


def _arguments(state: StageState) -> list[str]:
    """``|2 A=1 B=2``: the ARGs in scope, as BuildKit's histories have them."""
    pairs = [f"{name}={state.env.get(name, value or '')}" for name, value in state.args.items()]
    return [f"|{len(pairs)}", *pairs] if pairs else []


def _network(text: str) -> Network:
    match text:
        case "default" | "none" | "host":
            return text
        case _:
            raise Unsupported(f"RUN --network={text} is not known")


def _refuse(item: RunInstruction) -> None:
    if item.mounts:
        raise Unsupported(
            f"RUN --mount=type={item.mounts[0].type} is not supported in this version",
            hint="COPY the files, or wait for the release that has --mount",
        )
    if item.security != "sandbox":
        raise Unsupported(f"RUN --security={item.security} is not supported in this version")
    if item.devices:
        raise Unsupported("RUN --device is not supported in this version")
