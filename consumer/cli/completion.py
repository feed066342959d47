"""`quartermaster completion`: the shell finishes commands, options and their values."""

# ruff: noqa: D301 - click reads \b itself: the lines below it stay as they are

import click
from click.shell_completion import get_completion_class

from consumer.cli.output import json_option, print_json

_VARIABLE = "_QUARTERMASTER_COMPLETE"
"""Where click looks for a shell's question: made of the program's name."""


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@click.pass_context
def completion(ctx: click.Context, shell: str, *, as_json: bool) -> None:
    """Print the script with which SHELL completes our commands at the Tab key.

    \b
    Example:
      quartermaster completion bash > ~/.local/share/bash-completion/completions/quartermaster
      quartermaster completion zsh > "${fpath[1]}/_quartermaster"
      quartermaster completion fish > ~/.config/fish/completions/quartermaster.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, "click knows all three"
    # Asked of the class itself, bash's would start a bash first, to look at its version.
    maker = kind(ctx.find_root().command, {}, "quartermaster", _VARIABLE)
    script = maker.source_template % maker.source_vars()
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
