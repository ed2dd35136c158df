"""Pure: the failures of the Kubernetes API: one exception, its `Status` on the wire, and upstream's texts (apimachinery's `api/errors`).

Raised anywhere in the API server and rendered in one place; rebuilt from the wire in clients. `definite` says whether the request is known
to have had no effect: after a timeout it may have had one.
"""

from collections.abc import Sequence
from typing import Any

from kubette.apimachinery.field_errors import FieldError

OPTIMISTIC_LOCK = "the object has been modified; please apply your changes to the latest version and try again"


class ApiError(Exception):
    """An answer of the API that is not a success."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None, *, definite: bool = True) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}
        self.definite = definite

    @property
    def retry_after_s(self) -> int | None:
        """Seconds the server asks to wait, also sent as the Retry-After header."""
        seconds = self.details.get("retryAfterSeconds")
        return seconds if isinstance(seconds, int) else None

    def to_status(self) -> dict[str, Any]:
        """The `Status` object, keys in upstream's order."""
        status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": self.message}
        if self.reason:
            status["reason"] = self.reason
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def from_status(status: dict[str, Any], http_code: int = 0) -> ApiError:
    """The exception a `Status` object stands for."""
    code = int(status.get("code") or http_code or 500)
    reason = str(status.get("reason") or "")
    return ApiError(code, reason, str(status.get("message") or ""), status.get("details") or {}, definite=reason not in ("Timeout", "ServerTimeout"))


def success(details: dict[str, Any] | None = None) -> dict[str, Any]:
    """The `Status` that answers a successful delete."""
    status: dict[str, Any] = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    if details:
        status["details"] = details
    return status


def _split(resource_dot_group: str) -> tuple[str, str]:
    resource, _, group = resource_dot_group.partition(".")
    return resource, group


def _details(resource_dot_group: str, name: str = "") -> dict[str, Any]:
    resource, group = _split(resource_dot_group)
    details: dict[str, Any] = {}
    if name:
        details["name"] = name
    if group:
        details["group"] = group
    if resource:
        details["kind"] = resource
    return details


def _quote(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def bad_request(message: str) -> ApiError:
    return ApiError(400, "BadRequest", message)


def unauthorized(message: str = "Unauthorized") -> ApiError:
    return ApiError(401, "Unauthorized", message)


def forbidden(group_resource: str, name: str, why: str) -> ApiError:
    """`pods "web" is forbidden: why`; without a name `pods is forbidden: why`."""
    if not group_resource:
        message = f"forbidden: {why}"
    elif name:
        message = f"{group_resource} {_quote(name)} is forbidden: {why}"
    else:
        message = f"{group_resource} is forbidden: {why}"
    return ApiError(403, "Forbidden", message, _details(group_resource, name))


def not_found(resource_dot_group: str, name: str) -> ApiError:
    return ApiError(404, "NotFound", f"{resource_dot_group} {_quote(name)} not found", _details(resource_dot_group, name))


def path_not_found() -> ApiError:
    """No such resource or path at all."""
    return ApiError(404, "NotFound", "the server could not find the requested resource")


def already_exists(resource_dot_group: str, name: str) -> ApiError:
    return ApiError(409, "AlreadyExists", f"{resource_dot_group} {_quote(name)} already exists", _details(resource_dot_group, name))


def generate_name_conflict(resource_dot_group: str, name: str) -> ApiError:
    """The server could not find a free generated name in its few attempts."""
    message = f"{resource_dot_group} {_quote(name)} already exists, the server was not able to generate a unique name for the object"
    return ApiError(409, "AlreadyExists", message, _details(resource_dot_group, name))


def conflict(resource_dot_group: str, name: str, why: str = OPTIMISTIC_LOCK) -> ApiError:
    message = f"Operation cannot be fulfilled on {resource_dot_group} {_quote(name)}: {why}"
    return ApiError(409, "Conflict", message, _details(resource_dot_group, name))


def apply_conflict(message: str, causes: Sequence[dict[str, str]]) -> ApiError:
    """Server-side apply met fields of another manager."""
    return ApiError(409, "Conflict", message, {"causes": list(causes)})


def invalid(kind_dot_group: str, name: str, errors: Sequence[FieldError]) -> ApiError:
    """`Pod "web" is invalid: spec.containers: Required value`; several errors are listed in brackets, each once."""
    texts = list(dict.fromkeys(str(error) for error in errors))
    shown = texts[0] if len(texts) == 1 else "[" + ", ".join(texts) + "]"
    message = f"{kind_dot_group} {_quote(name)} is invalid" + (f": {shown}" if texts else "")
    details = _details(kind_dot_group, name)
    if errors:
        details["causes"] = [error.cause() for error in errors]
    return ApiError(422, "Invalid", message, details)


def method_not_supported(action: str, group_resource: str) -> ApiError:
    message = f"{action} is not supported on resources of kind {_quote(group_resource)}"
    return ApiError(405, "MethodNotAllowed", message, _details(group_resource))


def not_acceptable(accepted: Sequence[str]) -> ApiError:
    return ApiError(406, "NotAcceptable", f"only the following media types are accepted: {', '.join(accepted)}")


def unsupported_media_type(accepted: Sequence[str]) -> ApiError:
    message = f"the body of the request was in an unknown format - accepted media types include: {', '.join(accepted)}"
    return ApiError(415, "UnsupportedMediaType", message)


def request_entity_too_large(why: str) -> ApiError:
    """For instance `limit is 3145728`."""
    return ApiError(413, "RequestEntityTooLarge", f"Request entity is too large: {why}")


def gone(message: str) -> ApiError:
    return ApiError(410, "Gone", message)


def expired(message: str = "The resourceVersion for the provided watch is too old.") -> ApiError:
    return ApiError(410, "Expired", message)


def too_old_resource_version(requested: int, oldest: int) -> ApiError:
    """A watch or an exact list from before what is still remembered."""
    return expired(f"too old resource version: {requested} ({oldest})")


def too_large_resource_version(requested: int, current: int, retry_after_s: int = 1) -> ApiError:
    """A resource version this server has not seen yet; clients know it by the cause."""
    details = {
        "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
        "retryAfterSeconds": retry_after_s,
    }
    return ApiError(504, "Timeout", f"Timeout: Too large resource version: {requested}, current: {current}", details)


def too_many_requests(message: str, retry_after_s: int = 1) -> ApiError:
    return ApiError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after_s})


def eviction_blocked(pod_disruption_budget: str, message: str) -> ApiError:
    """An eviction that a PodDisruptionBudget does not allow now."""
    details = {"causes": [{"reason": "DisruptionBudget", "message": f"The disruption budget {pod_disruption_budget} {message}"}]}
    return ApiError(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", details)


def internal(message: str) -> ApiError:
    return ApiError(500, "InternalError", f"Internal error occurred: {message}", {"causes": [{"message": message}]}, definite=False)


def timeout(message: str, retry_after_s: int = 0) -> ApiError:
    details = {"retryAfterSeconds": retry_after_s} if retry_after_s else {}
    return ApiError(504, "Timeout", f"Timeout: {message}", details, definite=False)


def server_timeout(group_resource: str, operation: str, retry_after_s: int = 0) -> ApiError:
    message = f"The {operation} operation against {group_resource} could not be completed at this time, please try again."
    details = _details(group_resource)
    if retry_after_s:
        details["retryAfterSeconds"] = retry_after_s
    # ServerTimeout means "not done", in contrast to Timeout; it is answered before anything was written.
    return ApiError(500, "ServerTimeout", message, details)


def service_unavailable(message: str) -> ApiError:
    return ApiError(503, "ServiceUnavailable", message)


def is_not_found(error: BaseException) -> bool:
    return isinstance(error, ApiError) and error.code == 404


def is_already_exists(error: BaseException) -> bool:
    return isinstance(error, ApiError) and error.reason == "AlreadyExists"


def is_conflict(error: BaseException) -> bool:
    return isinstance(error, ApiError) and error.reason == "Conflict"
