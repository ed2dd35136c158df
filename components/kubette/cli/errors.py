"""Pure: failures of the command line."""


class CommandError(Exception):
    """The command cannot be carried out; the text is for the user, without a leading `error:`."""


class PhaseError(CommandError):
    """A phase of `kubette up` failed: `component` failed first, `tail` are its last log lines."""

    def __init__(self, component: str, message: str, tail: list[str]) -> None:
        super().__init__(message)
        self.component, self.tail = component, tail
