"""The door of the command line: every command asks first whether whoever runs it may.

`admit_all` puts itself in front of each command, so that none can forget to ask; one that
`roles.COMMANDS` does not name runs for nobody.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import click

from fraud_platform.adapters.operator import operator_of
from fraud_platform.roles import needed_for
from fraud_platform.settings import get_settings


@dataclass(frozen=True)
class Admitted:
    """A command behind its door.

    Attributes:
        name: as `roles.COMMANDS` has it.
        run: what the command does.
    """

    name: str
    run: Callable[..., Any]

    def __call__(self, *arguments: object, **options: object) -> object:
        """Run the command, if whoever asks may; its option `--by` is then who that is.

        Raises:
            AccessDeniedError: they may not.
            PermanentError: nobody may: the command declares no scope.
        """
        if needed_for(self.name):
            told = options.get("by")
            operator = operator_of(get_settings(), self.name, None if told is None else str(told))
            if "by" in options:
                options["by"] = operator.subject
        return self.run(*arguments, **options)


def admit_all(program: click.Group) -> None:
    """Put the door in front of every command of a program, once all of them are there."""
    for name, command in commands_of(program):
        if command.callback is not None:
            command.callback = Admitted(name, command.callback)


def commands_of(group: click.Group, above: str = "") -> Iterator[tuple[str, click.Command]]:
    """Every command of a program that does something, with the words that call it."""
    for word, command in group.commands.items():
        name = f"{above} {word}".strip()
        if isinstance(command, click.Group):
            yield from commands_of(command, name)
        else:
            yield name, command
