"""Kinds that are questions: token and access reviews, token requests. What is posted is answered, nothing is stored."""

from typing import Any

from kubette.apimachinery import meta, status
from kubette.kube_apiserver.auth import reviews, token_request
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.verbs import body, options, render

Object = dict[str, Any]


async def _read(call: Call) -> Object:
    kind = call.resource.kind
    opts = options.write_options(call.query, call.request.headers.get("User-Agent", ""))
    return await body.read_object(call, kind.api_version, kind.kind, call.resource.schema, opts.validation)


async def create(call: Call) -> Answer:
    """Any review."""
    obj, core = await _read(call), call.core
    match call.resource.kind.kind:
        case "TokenReview":
            answer = await reviews.token_review(obj, core.identity.authenticate_token, core.identity.audiences)
        case "SelfSubjectReview":
            answer = reviews.self_subject_review(obj, call.user)
        case "SelfSubjectAccessReview":
            answer = await reviews.self_subject_access_review(obj, call.user, core.authorizer)
        case "SubjectAccessReview":
            answer = await reviews.subject_access_review(obj, core.authorizer)
        case "LocalSubjectAccessReview":
            answer = await reviews.subject_access_review(obj, core.authorizer, call.info.namespace)
        case "SelfSubjectRulesReview":
            answer = await reviews.self_subject_rules_review(obj, call.user, core.identity.rbac)
        case _:
            raise status.path_not_found()
    return render.plain(call, answer, 201)


async def create_token(call: Call) -> Answer:
    """`serviceaccounts/token`."""
    identity = call.core.identity
    schema = call.core.resources.schemas.for_gvk("authentication.k8s.io", "v1", "TokenRequest")
    obj = await body.read_object(call, "authentication.k8s.io/v1", "TokenRequest", schema, "Ignore")
    if identity.issuer is None:
        raise status.path_not_found()
    meta.metadata(obj).setdefault("name", call.info.name)
    meta.metadata(obj).setdefault("namespace", call.info.namespace)
    made = await token_request.create(obj, call.info.namespace, call.info.name, identity.issuer, call.core.lister, identity.audiences)
    return render.plain(call, made, 201)
