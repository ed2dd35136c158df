"""Pure: failures of the command line."""


class CommandError(Exception):
    """The command cannot be carried out; the text is for the user, without a leading `error:`."""


class PhaseError(CommandError):
    """A phase of `kubette up` failed: `component` failed first, `tail` are its last log lines; `killed` says that it was killed from outside."""

    def __init__(self, component: str, message: str, tail: list[str], killed: bool = False) -> None:
        super().__init__(message)
        self.component, self.tail, self.killed = component, tail, killed
