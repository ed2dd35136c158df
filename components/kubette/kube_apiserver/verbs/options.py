"""Pure: the query parameters of every verb, checked as upstream's validation of ListOptions, PatchOptions … does."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass

import orjson

from kubette.apimachinery import field_errors, selectors, status
from kubette.apimachinery.field_errors import FieldError
from kubette.kube_apiserver.request_info import is_true

FIELD_VALIDATION = ("Ignore", "Warn", "Strict")
MANAGER_LENGTH_MAX = 128
EXACT, NOT_OLDER_THAN = "Exact", "NotOlderThan"
CONTINUE_VERSION = "meta.k8s.io/v1"


def resource_version(text: str) -> int:
    """0 for an empty one. Raises Invalid as upstream's ParseResourceVersion does."""
    if not text:
        return 0
    if not text.isdigit() or int(text) >= 1 << 63:
        # Wordy, but this is what clients see.
        detail = f'strconv.ParseUint: parsing "{text}": invalid syntax' if not text.isdigit() else "value out of range"
        raise status.bad_request(f"Invalid value: {field_errors.show(text)}: {detail}")
    return int(text)


def integer(query: Mapping[str, str], name: str) -> int:
    """A number, 0 when absent."""
    text = query.get(name, "")
    if not text:
        return 0
    try:
        return int(text)
    except ValueError:
        raise status.bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Of list, watch and deletecollection."""

    labels: selectors.Selector
    fields: selectors.FieldSelector
    resource_version: str
    match: str
    limit: int
    continue_token: str
    timeout_s: int
    bookmarks: bool
    send_initial_events: bool | None


def list_options(query: Mapping[str, str], watching: bool) -> ListOptions:
    """Raises BadRequest or Invalid."""
    try:
        labels = selectors.parse_label_selector(query.get("labelSelector", ""))
        fields = selectors.parse_field_selector(query.get("fieldSelector", ""))
    except selectors.SelectorError as error:
        raise status.bad_request(str(error)) from None
    options = ListOptions(
        labels,
        fields,
        query.get("resourceVersion", ""),
        query.get("resourceVersionMatch", ""),
        integer(query, "limit"),
        query.get("continue", ""),
        integer(query, "timeoutSeconds"),
        is_true(query.get("allowWatchBookmarks")),
        is_true(query["sendInitialEvents"]) if "sendInitialEvents" in query else None,
    )
    errors = _check_watch(options) if watching else _check_list(options)
    if errors:
        raise status.invalid("ListOptions.meta.k8s.io", "", errors)
    resource_version(options.resource_version)
    return options


def _check_list(options: ListOptions) -> list[FieldError]:
    """metainternalversion's ValidateListOptions."""
    errors = []
    if options.match:
        if not options.resource_version:
            errors.append(field_errors.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden unless resourceVersion is provided"))
        if options.continue_token:
            errors.append(field_errors.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden when continue is provided"))
        if options.match not in (EXACT, NOT_OLDER_THAN):
            errors.append(field_errors.not_supported("resourceVersionMatch", options.match, (EXACT, NOT_OLDER_THAN, "")))
        if options.match == EXACT and options.resource_version == "0":
            errors.append(field_errors.forbidden("resourceVersionMatch", 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'))
    if options.send_initial_events is not None:
        errors.append(field_errors.forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list"))
    if options.limit < 0:
        errors.append(field_errors.invalid("limit", options.limit, "must be greater than or equal to 0"))
    return errors


def _check_watch(options: ListOptions) -> list[FieldError]:
    errors = []
    if options.send_initial_events is not None:
        if not options.match:
            errors.append(field_errors.forbidden("resourceVersionMatch", "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"))
        elif options.match != NOT_OLDER_THAN:
            errors.append(field_errors.not_supported("resourceVersionMatch", options.match, (NOT_OLDER_THAN,)))
        if options.send_initial_events and not options.bookmarks:
            errors.append(field_errors.forbidden("allowWatchBookmarks", "sendInitialEvents requires setting allowWatchBookmarks to true"))
    elif options.match:
        errors.append(
            field_errors.forbidden("resourceVersionMatch", "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
        )
    if options.continue_token:
        errors.append(field_errors.forbidden("continue", "continue is forbidden for watch"))
    return errors


def encode_continue(revision: int, start: str) -> str:
    """Where the next page begins: `start` is the first key after this one's last."""
    body = orjson.dumps({"v": CONTINUE_VERSION, "rv": revision, "start": start})
    return base64.urlsafe_b64encode(body).rstrip(b"=").decode()


def decode_continue(token: str) -> tuple[int, str]:
    """(revision, start). A revision of -1 asks for the rest as it is now."""
    try:
        body = orjson.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        version, revision, start = body["v"], int(body["rv"]), str(body["start"])
    except (ValueError, KeyError, TypeError):
        raise status.bad_request("continue key is not valid: illegal base64 data or JSON") from None
    if version != CONTINUE_VERSION:
        raise status.bad_request(f"continue key is not valid: server does not recognize this encoded version {version!r}")
    if revision == 0 or not start:
        raise status.bad_request("continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)")
    # Keys are paths: a token must not lead out of the list it came from.
    if start.startswith("/") or any(part in ("..", ".") for part in start.rstrip("\0").split("/")):
        raise status.bad_request(f"continue key is not valid: {start!r}")
    return revision, start


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Of create, update, patch and apply."""

    dry_run: bool
    manager: str
    validation: str
    force: bool


def write_options(query: Mapping[str, str], user_agent: str, default_validation: str = "Warn") -> WriteOptions:
    """Raises Invalid."""
    errors = dry_run_errors(query)
    manager = query.get("fieldManager", "")
    if len(manager) > MANAGER_LENGTH_MAX:
        errors.append(field_errors.too_long("fieldManager", MANAGER_LENGTH_MAX))
    if not manager.isprintable():
        errors.append(field_errors.invalid("fieldManager", manager, "should only contain printable characters"))
    validation = query.get("fieldValidation", "") or default_validation
    if validation not in FIELD_VALIDATION:
        errors.append(field_errors.not_supported("fieldValidation", validation, FIELD_VALIDATION))
    if errors:
        raise status.invalid("PatchOptions.meta.k8s.io" if "force" in query else "CreateOptions.meta.k8s.io", "", errors)
    # The name of a client that does not say one is its program: the user agent up to the slash.
    default = "".join(c for c in user_agent.partition("/")[0] if c.isprintable())[:MANAGER_LENGTH_MAX]
    return WriteOptions("dryRun" in query and bool(query["dryRun"]), manager or default or "unknown", validation, is_true(query.get("force")))


def dry_run_errors(query: Mapping[str, str]) -> list[FieldError]:
    given = query.get("dryRun", "")
    return [] if given in ("", "All") else [field_errors.not_supported("dryRun", given, ("All",))]
