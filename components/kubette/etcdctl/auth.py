"""`auth enable|disable`, `user ...`, `role ...`: who may do what."""

import sys
from typing import Any

from kubette.component_base.flags import FlagSet
from kubette.etcd_api import auth_pb2
from kubette.etcd_api import rpc_pb2 as pb
from kubette.etcdctl import printers
from kubette.etcdctl.cobra import Command
from kubette.etcdctl.connection import RpcFailure
from kubette.etcdctl.context import Context, ask_password
from kubette.etcdctl.errors import bad_args
from kubette.etcdctl.keys import encoded

_NO_ROOT_ROLE = "etcdserver: root user does not have root role"
_PERMISSIONS = {"read": auth_pb2.Permission.READ, "write": auth_pb2.Permission.WRITE, "readwrite": auth_pb2.Permission.READWRITE}


# auth


def _enable(context: Context) -> None:
    if context.args:
        raise bad_args("auth enable command does not accept any arguments")
    try:
        context.call("Auth/AuthEnable", pb.AuthEnableRequest(), pb.AuthEnableResponse)
    except RpcFailure as failure:
        if failure.details != _NO_ROOT_ROLE:
            raise
        # The user root is there and lacks its role: upstream's client sees to that.
        context.call("Auth/RoleAdd", pb.AuthRoleAddRequest(name="root"), pb.AuthRoleAddResponse)
        context.call("Auth/UserGrantRole", pb.AuthUserGrantRoleRequest(user="root", role="root"), pb.AuthUserGrantRoleResponse)
        context.call("Auth/AuthEnable", pb.AuthEnableRequest(), pb.AuthEnableResponse)
    print("Authentication Enabled")


def _disable(context: Context) -> None:
    if context.args:
        raise bad_args("auth disable command does not accept any arguments")
    context.call("Auth/AuthDisable", pb.AuthDisableRequest(), pb.AuthDisableResponse)
    print("Authentication Disabled")


# user


def _needs(context: Context, count: int, message: str) -> list[str]:
    if len(context.args) != count:
        raise bad_args(message)
    return context.args


def _new_password(user: str) -> str:
    first = ask_password(f"Password of {user}: ")
    if not first:
        raise bad_args("empty password")
    if first != ask_password(f"Type password of {user} again for confirmation: "):
        raise bad_args("given passwords are different")
    return first


def _password(context: Context, user: str) -> str:
    if context.options.interactive:
        return _new_password(user)
    words = sys.stdin.readline().split()
    return words[0] if words else ""


def _user_add(context: Context) -> None:
    (user,) = _needs(context, 1, "user add command requires user name as its argument")
    options = context.options
    password = ""
    if not options.no_password:
        if options.new_user_password:
            password = options.new_user_password
        elif ":" in user:
            user, _, password = user.partition(":")
            if not user:
                raise bad_args("empty user name is not allowed")
        else:
            password = _password(context, user)
    request = pb.AuthUserAddRequest(name=user, password=password, options=auth_pb2.UserAddOptions(no_password=options.no_password))
    context.show("UserAdd", context.call("Auth/UserAdd", request, pb.AuthUserAddResponse), user=user)


def _user_delete(context: Context) -> None:
    (user,) = _needs(context, 1, "user delete command requires user name as its argument")
    context.show("UserDelete", context.call("Auth/UserDelete", pb.AuthUserDeleteRequest(name=user), pb.AuthUserDeleteResponse), user=user)


def _user_get(context: Context) -> None:
    (user,) = _needs(context, 1, "user get command requires user name as its argument")
    answer = context.call("Auth/UserGet", pb.AuthUserGetRequest(name=user), pb.AuthUserGetResponse)
    if not context.options.detail:
        context.show("UserGet", answer, user=user)
        return
    print(f"User: {user}")
    for role in answer.roles:
        print()
        context.show("RoleGet", context.call("Auth/RoleGet", pb.AuthRoleGetRequest(role=role), pb.AuthRoleGetResponse), role=role)


def _user_list(context: Context) -> None:
    _needs(context, 0, "user list command requires no arguments")
    context.show("UserList", context.call("Auth/UserList", pb.AuthUserListRequest(), pb.AuthUserListResponse))


def _user_passwd(context: Context) -> None:
    (user,) = _needs(context, 1, "user passwd command requires user name as its argument")
    request = pb.AuthUserChangePasswordRequest(name=user, password=_password(context, user))
    context.show("UserChangePassword", context.call("Auth/UserChangePassword", request, pb.AuthUserChangePasswordResponse))


def _user_grant_role(context: Context) -> None:
    user, role = _needs(context, 2, "user grant command requires user name and role name as its argument")
    request = pb.AuthUserGrantRoleRequest(user=user, role=role)
    context.show("UserGrantRole", context.call("Auth/UserGrantRole", request, pb.AuthUserGrantRoleResponse), user=user, role=role)


def _user_revoke_role(context: Context) -> None:
    user, role = _needs(context, 2, "user revoke-role requires user name and role name as its argument")
    request = pb.AuthUserRevokeRoleRequest(name=user, role=role)
    context.show("UserRevokeRole", context.call("Auth/UserRevokeRole", request, pb.AuthUserRevokeRoleResponse), user=user, role=role)


# role


def _role_add(context: Context) -> None:
    (role,) = _needs(context, 1, "role add command requires role name as its argument")
    context.show("RoleAdd", context.call("Auth/RoleAdd", pb.AuthRoleAddRequest(name=role), pb.AuthRoleAddResponse), role=role)


def _role_delete(context: Context) -> None:
    (role,) = _needs(context, 1, "role delete command requires role name as its argument")
    context.show("RoleDelete", context.call("Auth/RoleDelete", pb.AuthRoleDeleteRequest(role=role), pb.AuthRoleDeleteResponse), role=role)


def _role_get(context: Context) -> None:
    (role,) = _needs(context, 1, "role get command requires role name as its argument")
    context.show("RoleGet", context.call("Auth/RoleGet", pb.AuthRoleGetRequest(role=role), pb.AuthRoleGetResponse), role=role)


def _role_list(context: Context) -> None:
    _needs(context, 0, "role list command requires no arguments")
    context.show("RoleList", context.call("Auth/RoleList", pb.AuthRoleListRequest(), pb.AuthRoleListResponse))


def _grant_permission(context: Context) -> None:
    args = context.args
    if len(args) < 3:
        raise bad_args("role grant command requires role name, permission type, and key [endkey] as its argument")
    kind = _PERMISSIONS.get(args[1].lower())
    if kind is None:
        raise bad_args(f"invalid permission type: {args[1]}")
    key, range_end = _range(context.options, args[2:])
    permission = auth_pb2.Permission(permType=kind, key=encoded(key), range_end=encoded(range_end))
    request = pb.AuthRoleGrantPermissionRequest(name=args[0], perm=permission)
    context.show("RoleGrantPermission", context.call("Auth/RoleGrantPermission", request, pb.AuthRoleGrantPermissionResponse), role=args[0])


def _revoke_permission(context: Context) -> None:
    args = context.args
    if len(args) < 2:
        raise bad_args("role revoke-permission command requires role name and key [endkey] as its argument")
    key, range_end = _range(context.options, args[1:])
    request = pb.AuthRoleRevokePermissionRequest(role=args[0], key=encoded(key), range_end=encoded(range_end))
    answer = context.call("Auth/RoleRevokePermission", request, pb.AuthRoleRevokePermissionResponse)
    context.show("RoleRevokePermission", answer, role=args[0], key=args[1], range_end=range_end)


def _range(options: Any, args: list[str]) -> tuple[str, str]:
    """Key and range_end of a permission. The empty key stands for the least one, since a permission is an interval."""
    if not args[0]:
        if options.prefix and options.from_key:
            raise bad_args("--from-key and --prefix flags are mutually exclusive")
        return "\0", "\0" if options.prefix or options.from_key else ""
    if len(args) == 1:
        if options.prefix and options.from_key:
            raise bad_args("--from-key and --prefix flags are mutually exclusive")
        if options.prefix:
            return args[0], printers.prefix_end(encoded(args[0])).decode("utf-8", "surrogateescape")
        return args[0], "\0" if options.from_key else ""
    if options.prefix or options.from_key:
        raise bad_args(f"unexpected endkey argument with {'--prefix' if options.prefix else '--from-key'} flag")
    return args[0], args[1]


def _user_add_flags(flags: FlagSet) -> None:
    flags.bool("interactive", True, "Read password from stdin instead of interactive terminal")
    flags.string("new-user-password", "", "Supply password from the command line flag")
    flags.bool("no-password", False, "Create a user without password (CN based auth only)")


def _user_get_flags(flags: FlagSet) -> None:
    flags.bool("detail", False, "Show permissions of roles granted to the user")


def _passwd_flags(flags: FlagSet) -> None:
    flags.bool("interactive", True, "If true, read password from stdin instead of interactive terminal")


def _range_flags(verb: str) -> Any:
    def declare(flags: FlagSet) -> None:
        flags.bool("prefix", False, f"{verb} a prefix permission")
        flags.bool("from-key", False, f"{verb} a permission of keys that are greater than or equal to the given key using byte compare")

    return declare


AUTH = Command(
    "auth <enable or disable>",
    "Enable or disable authentication",
    commands=(Command("enable", "Enables authentication", _enable), Command("disable", "Disables authentication", _disable)),
)
USER = Command(
    "user <subcommand>",
    "User related commands",
    commands=(
        Command("add <user name or user:password> [options]", "Adds a new user", _user_add, _user_add_flags),
        Command("delete <user name>", "Deletes a user", _user_delete),
        Command("get <user name> [options]", "Gets detailed information of a user", _user_get, _user_get_flags),
        Command("list", "Lists all users", _user_list),
        Command("passwd <user name> [options]", "Changes password of user", _user_passwd, _passwd_flags),
        Command("grant-role <user name> <role name>", "Grants a role to a user", _user_grant_role),
        Command("revoke-role <user name> <role name>", "Revokes a role from a user", _user_revoke_role),
    ),
)
ROLE = Command(
    "role <subcommand>",
    "Role related commands",
    commands=(
        Command("add <role name>", "Adds a new role", _role_add),
        Command("delete <role name>", "Deletes a role", _role_delete),
        Command("get <role name>", "Gets detailed information of a role", _role_get),
        Command("list", "Lists all roles", _role_list),
        Command(
            "grant-permission [options] <role name> <permission type> <key> [endkey]",
            "Grants a key to a role",
            _grant_permission,
            _range_flags("grant"),
        ),
        Command("revoke-permission <role name> <key> [endkey]", "Revokes a key from a role", _revoke_permission, _range_flags("revoke")),
    ),
)
