"""Pure: what a CRI call answers when it cannot be done: a gRPC code and containerd's text."""


class CriError(Exception):
    """`code` is the name of a gRPC status code (`NOT_FOUND`); the text is what the kubelet puts into its event."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
