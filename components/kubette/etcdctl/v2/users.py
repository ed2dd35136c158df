"""`user`, `role` and `auth`: who may do what, in the v2 API's own way (not the v3 API's users)."""

from collections.abc import Callable
from typing import Any

from kubette.etcdctl.v2.client import ApiError, FailureError, ask_password, canonical
from kubette.etcdctl.v2.command_line import Command, Flag
from kubette.etcdctl.v2.run import Run

_USER, _ROLE = "Please provide a username", "Please provide a role name"


def _asked(run: Run, method: str, path: str, document: dict[str, Any] | None = None) -> Any:
    try:
        return run.client.auth(method, path, document)
    except ApiError as error:
        raise FailureError(str(error)) from None


def _listed(kind: str) -> Callable[[Run], None]:
    def show(run: Run) -> None:
        run.no_arguments()
        try:
            found = run.client.auth("GET", f"{kind}s", told=kind == "user")
        except ApiError as error:
            raise FailureError(str(error)) from None
        for each in found.get(f"{kind}s") or ():
            print(each[kind])

    return show


# Users


def _user_add(run: Run) -> None:
    given = run.only_argument(_USER)
    _ = run.client
    name, colon, password = given.partition(":")
    if not colon:
        password = _new_password()
    _asked(run, "PUT", f"users/{name}", {"user": name, **({"password": password} if password else {}), "roles": None})
    print(f"User {name} created")


def _new_password() -> str:
    try:
        return ask_password("New password: ")
    except FailureError as error:
        raise FailureError(f"Error reading password: {str(error).removeprefix('failed to ask password: ')}") from None


def _user_get(run: Run) -> None:
    user = _asked(run, "GET", f"users/{run.only_argument(_USER)}")
    roles = user.get("roles") or ()
    # Upstream takes the roles for names first, and finds as many empty ones.
    names = [""] * len(roles) + [each["role"] for each in roles]
    print(f"User: {user['user']}\nRoles: {' '.join(names)}")


def _user_remove(run: Run) -> None:
    name = run.only_argument(_USER)
    _asked(run, "DELETE", f"users/{name}")
    print(f"User {name} removed")


def _user_roles(change: str) -> Callable[[Run], None]:
    def run_it(run: Run) -> None:
        if not run.flags["roles"]:
            raise FailureError("No roles specified; please use `--roles`")
        name = run.only_argument(_USER)
        _asked(run, "PUT", f"users/{name}", {"user": name, "roles": None, change: run.flags["roles"]})
        print(f"User {name} updated")

    return run_it


def _user_passwd(run: Run) -> None:
    name = run.only_argument(_USER)
    _ = run.client
    _asked(run, "PUT", f"users/{name}", {"user": name, "password": _new_password(), "roles": None})
    print("Password updated")


# Roles


def _role_add(run: Run) -> None:
    name = run.only_argument(_ROLE)
    try:
        run.client.auth("GET", f"roles/{name}")
    except ApiError:
        _asked(run, "PUT", f"roles/{name}", {"role": name, "permissions": {"kv": {"read": None, "write": None}}})
        print(f"Role {name} created")
        return
    raise FailureError(f"Role {name} already exists")


def _role_get(run: Run) -> None:
    role = _asked(run, "GET", f"roles/{run.only_argument(_ROLE)}")
    print(f"Role: {role['role']}")
    for title, kind in (("KV Read:", "read"), ("KV Write:", "write")):
        print(title)
        for path in role["permissions"]["kv"][kind] or ():
            print(f"\t{path}")


def _role_remove(run: Run) -> None:
    name = run.only_argument(_ROLE)
    _asked(run, "DELETE", f"roles/{name}")
    print(f"Role {name} removed")


def _role_paths(change: str) -> Callable[[Run], None]:
    def run_it(run: Run) -> None:
        flags = run.flags
        path = flags["path"]
        if not path:
            raise FailureError("No path specified; please use `--path`")
        if (wanted := canonical(path)) != path:
            raise FailureError(f"Not canonical path; please use `--path={wanted}`")
        if sum((flags["read"], flags["write"], flags["readwrite"])) != 1:
            raise FailureError("Please specify exactly one of --read, --write or --readwrite")
        name = run.only_argument(_ROLE)
        before = _asked(run, "GET", f"roles/{name}")
        paths = {"read": [path] if not flags["write"] else None, "write": [path] if not flags["read"] else None}
        nothing = {"kv": {"read": None, "write": None}}
        after = _asked(run, "PUT", f"roles/{name}", {"role": name, "permissions": nothing, change: {"kv": paths}})
        if after == before:
            print(f"Role unchanged; already {change}{'ed' if change == 'grant' else 'd'}", end="")
        print(f"Role {name} updated")

    return run_it


# Authentication


def _auth(method: str, word: str) -> Callable[[Run], None]:
    def run_it(run: Run) -> None:
        run.no_arguments()
        _asked(run, method, "enable")
        print(f"Authentication {word}")

    return run_it


def _path_flags(verb: str, verbed: str) -> tuple[Flag, ...]:
    suffix = "-only" if verb == "Grant" else ""
    return (
        Flag("path", "string", f"Path {verbed} for the role to access"),
        Flag("read", "bool", f"{verb} read{suffix} access"),
        Flag("write", "bool", f"{verb} write{suffix} access"),
        Flag("readwrite, rw", "bool", f"{verb} read-write access"),
    )


_ROLES = (Flag("roles", "strings", "List of roles to grant or revoke"),)

USER = Command(
    "user",
    "user add, grant and revoke subcommands",
    commands=(
        Command("add", "add a new user for the etcd cluster", "<user>", _user_add),
        Command("get", "get details for a user", "<user>", _user_get),
        Command("list", "list all current users", "<user>", _listed("user")),
        Command("remove", "remove a user for the etcd cluster", "<user>", _user_remove),
        Command("grant", "grant roles to an etcd user", "<user>", _user_roles("grant"), _ROLES),
        Command("revoke", "revoke roles for an etcd user", "<user>", _user_roles("revoke"), _ROLES),
        Command("passwd", "change password for a user", "<user>", _user_passwd),
    ),
)
ROLE = Command(
    "role",
    "role add, grant and revoke subcommands",
    commands=(
        Command("add", "add a new role for the etcd cluster", "<role> ", _role_add),
        Command("get", "get details for a role", "<role>", _role_get),
        Command("list", "list all roles", " ", _listed("role")),
        Command("remove", "remove a role from the etcd cluster", "<role>", _role_remove),
        Command("grant", "grant path matches to an etcd role", "<role>", _role_paths("grant"), _path_flags("Grant", "granted")),
        Command("revoke", "revoke path matches for an etcd role", "<role>", _role_paths("revoke"), _path_flags("Revoke", "revoked")),
    ),
)
AUTH = Command(
    "auth",
    "overall auth controls",
    commands=(
        Command("enable", "enable auth access controls", " ", _auth("PUT", "Enabled")),
        Command("disable", "disable auth access controls", " ", _auth("DELETE", "Disabled")),
    ),
)
