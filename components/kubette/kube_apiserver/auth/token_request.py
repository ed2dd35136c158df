"""`serviceaccounts/token`: TokenRequest (KEP-1205), used by kubelets for pods and by `kubectl create token`."""

from collections.abc import Sequence
from typing import Any

from kubette.apimachinery import field_errors, status, timestamps
from kubette.kube_apiserver.admission.interfaces import Lister
from kubette.kube_apiserver.auth.service_account_tokens import MAX_EXPIRATION_S, MIN_EXPIRATION_S, TokenIssuer

Object = dict[str, Any]
_DEFAULT_EXPIRATION_S = 3600
_BOUND = {"Pod": ("pod", "pods"), "Secret": ("secret", "secrets"), "Node": ("node", "nodes")}


def validate(obj: Object, name: str) -> None:
    """Raises Invalid in upstream's words."""
    seconds = (obj.get("spec") or {}).get("expirationSeconds", _DEFAULT_EXPIRATION_S)
    errors = []
    if seconds < MIN_EXPIRATION_S:
        errors.append(field_errors.invalid("spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"))
    if seconds > MAX_EXPIRATION_S:
        errors.append(field_errors.invalid("spec.expirationSeconds", seconds, "may not specify a duration larger than 2^32 seconds"))
    if errors:
        raise status.invalid("TokenRequest.authentication.k8s.io", name, errors)


async def create(obj: Object, namespace: str, name: str, issuer: TokenIssuer, lister: Lister, api_audiences: Sequence[str]) -> Object:
    """The TokenRequest with its status: the token and when it ends. Raises NotFound, Conflict, BadRequest."""
    validate(obj, name)
    account = await lister.get("", "serviceaccounts", namespace, name)
    if account is None:
        raise status.not_found("serviceaccounts", name)
    spec = dict(obj.get("spec") or {})
    spec["audiences"] = spec.get("audiences") or list(api_audiences)
    spec.setdefault("expirationSeconds", _DEFAULT_EXPIRATION_S)
    bound: dict[str, dict[str, str]] = {}
    reference = spec.get("boundObjectRef")
    if reference:
        bound = await _bound(reference, namespace, name, lister)
    token, expires = issuer.issue(namespace, account, spec["audiences"], spec["expirationSeconds"], bound)
    return obj | {"spec": spec, "status": {"token": token, "expirationTimestamp": timestamps.format_time(expires)}}


async def _bound(reference: Object, namespace: str, account: str, lister: Lister) -> dict[str, dict[str, str]]:
    kind = reference.get("kind", "")
    if kind not in _BOUND or reference.get("apiVersion") != "v1":
        raise status.bad_request(f"cannot bind token to object of type {reference.get('apiVersion', '')}, Kind={kind}")
    claim, resource = _BOUND[kind]
    name = reference.get("name", "")
    found = await lister.get("", resource, "" if kind == "Node" else namespace, name)
    if found is None:
        raise status.not_found(resource, name)
    uid = found["metadata"]["uid"]
    if reference.get("uid") and reference["uid"] != uid:
        text = f"the UID in the bound object reference ({reference['uid']}) does not match the UID in record. The object might have been deleted and then recreated"
        raise status.conflict(f"{resource}", name, text)
    bound = {claim: {"name": name, "uid": uid}}
    if kind == "Pod":
        if (found["spec"].get("serviceAccountName") or "") != account:
            raise status.bad_request(f'cannot bind token for serviceaccount "{account}" to pod running with different serviceaccount name.')
        node_name = found["spec"].get("nodeName")
        node = await lister.get("", "nodes", "", node_name) if node_name else None
        if node is not None:
            bound["node"] = {"name": node_name, "uid": node["metadata"]["uid"]}
    return bound
