"""Which release these programs say they are: the one that our etcd reports."""

from kubette.etcd import version
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.context import Context, environment


def release() -> tuple[str, str]:
    """For instance `3.6.5` and its API, `3.6`."""
    server = version.server_version(environment())
    return server, ".".join(server.split(".")[:2])


def _print(program: str) -> Command:
    def run(context: Context) -> None:
        server, api = release()
        print(f"{program} version: {server}\nAPI version: {api}")

    return Command("version", f"Prints the version of {program}", run)


ETCDCTL = _print("etcdctl")
ETCDUTL = _print("etcdutl")
