"""Who is asking: the credentials of a request, and whom it asks for (impersonation)."""

import json

from aiohttp import web

from kubette.apimachinery import status
from kubette.kube_apiserver.auth.interfaces import (
    ALL_AUTHENTICATED,
    ALL_UNAUTHENTICATED,
    ANONYMOUS,
    Authenticator,
    Authorizer,
    AuthzAttributes,
    Credentials,
    Unauthorized,
    UserInfo,
)

USER, GROUP, UID, EXTRA = "Impersonate-User", "Impersonate-Group", "Impersonate-Uid", "Impersonate-Extra-"
_SERVICE_ACCOUNT = "system:serviceaccount:"


def credentials_of(request: web.BaseRequest) -> Credentials:
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    peer = transport.get_extra_info("peername") if transport is not None else None
    certificate = tls.getpeercert(True) if tls is not None else None
    return Credentials(request.headers, certificate, str(peer[0]) if peer else "", request.query)


async def authenticate(authenticator: Authenticator, request: web.BaseRequest) -> UserInfo:
    """Raises Unauthorized as an ApiError: 401 says nothing about why."""
    try:
        user = await authenticator.authenticate(credentials_of(request))
    except Unauthorized:
        raise status.unauthorized() from None
    if user is None:
        raise status.unauthorized()
    return user


async def impersonate(authorizer: Authorizer, request: web.BaseRequest, user: UserInfo) -> UserInfo:
    """The user the request is made for; who asks must be allowed to impersonate each part of that identity."""
    headers = request.headers
    name = headers.get(USER, "")
    groups = tuple(headers.getall(GROUP, []))
    uid = headers.get(UID, "")
    extra: dict[str, tuple[str, ...]] = {}
    for header in headers:
        if header.lower().startswith(EXTRA.lower()):
            extra[header[len(EXTRA) :].lower()] = tuple(headers.getall(header))
    if not name:
        if groups or uid or extra:
            raise status.internal("requested [groups/uid/extra] without impersonating a user")
        return user
    if name.startswith(_SERVICE_ACCOUNT) and name.count(":") == 3:
        _, _, namespace, account = name.split(":")
        await _check(authorizer, user, "serviceaccounts", account, namespace=namespace)
        groups = groups or ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    else:
        await _check(authorizer, user, "users", name)
    for group in groups:
        await _check(authorizer, user, "groups", group)
    if uid:
        await _check(authorizer, user, "uids", uid, group="authentication.k8s.io")
    for key, values in extra.items():
        for value in values:
            await _check(authorizer, user, "userextras", value, group="authentication.k8s.io", subresource=key)
    if name == ANONYMOUS:
        return UserInfo(name, uid, (*groups, ALL_UNAUTHENTICATED), extra)
    return UserInfo(name, uid, groups if ALL_AUTHENTICATED in groups else (*groups, ALL_AUTHENTICATED), extra)


async def _check(
    authorizer: Authorizer, user: UserInfo, resource: str, name: str, *, namespace: str = "", group: str = "", subresource: str = ""
) -> None:
    attrs = AuthzAttributes(user, "impersonate", group, "v1", resource, subresource, namespace, name)
    decision = await authorizer.authorize(attrs)
    if not decision.allowed:
        raise forbidden(attrs, decision.reason)


def forbidden(attrs: AuthzAttributes, reason: str) -> status.ApiError:
    """403 in the words kubectl users know."""
    quote = json.dumps
    user = quote(attrs.user.name)
    suffix = f": {reason}" if reason else ""
    if not attrs.is_resource:
        return status.forbidden("", "", f"User {user} cannot {attrs.verb} path {quote(attrs.path)}{suffix}")
    resource = f"{attrs.resource}/{attrs.subresource}" if attrs.subresource else attrs.resource
    where = f"in the namespace {quote(attrs.namespace)}" if attrs.namespace else "at the cluster scope"
    text = f"User {user} cannot {attrs.verb} resource {quote(resource)} in API group {quote(attrs.group)} {where}{suffix}"
    return status.forbidden(f"{attrs.resource}.{attrs.group}" if attrs.group else attrs.resource, attrs.name, text)
