import click
import pytest

from consumer.cli.main import COMMANDS, cli


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_says_of_a_command_what_it_says_itself(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert command.name == name
    assert not command.hidden
    assert command.get_short_help_str(limit=1_000) == COMMANDS[name].about


@pytest.mark.parametrize("width", [40, 80, 240])
def test_the_list_is_shown_as_click_would_show_it(width: int) -> None:
    shown, expected = click.HelpFormatter(width=width), click.HelpFormatter(width=width)
    context = click.Context(cli)
    cli.format_commands(context, shown)
    click.Group.format_commands(cli, context, expected)
    assert shown.getvalue() == expected.getvalue()
