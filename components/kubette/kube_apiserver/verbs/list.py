"""GET of a collection: which revision it shows, which page, which objects.

    resourceVersion  match           answered from
    (none)                           the cache, once it has seen all that etcd had when the request came (KEP-2340)
    "0"                              the cache as it is; `limit` does not apply
    N                NotOlderThan    the cache, once it has reached N
    N                Exact           etcd at revision N (or the cache, while nothing has changed since)
    continue         —               etcd at the token's revision (likewise)

API concepts, "Resource versions"; upstream's cacher.GetList.
"""

import bisect
from typing import Any

from kubette.apimachinery import status
from kubette.apimachinery.status import ApiError
from kubette.kube_apiserver.core import Call
from kubette.kube_apiserver.filters.answer import Answer
from kubette.kube_apiserver.storage import keys
from kubette.kube_apiserver.storage.feed import TooLarge
from kubette.kube_apiserver.storage.record import Record
from kubette.kube_apiserver.storage.store import Store
from kubette.kube_apiserver.verbs import options, render
from kubette.kube_apiserver.verbs.selection import Selection

INCONSISTENT = -1
EXPIRED_TOKEN = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token "
    "results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and "
    "now may show up in the list."
)
SCAN_PAGE = 500  # objects read from etcd at a time while a selector looks for `limit` matches


def selection_of(call: Call, opts: options.ListOptions) -> Selection:
    """Raises BadRequest for a field the resource cannot be selected by."""
    strategy = call.resource.strategy
    return Selection(call.info.namespace, opts.labels, opts.fields, strategy.selectable_fields, strategy.selectable_field_names)


async def handle(call: Call) -> Answer:
    opts = options.list_options(call.query, watching=False)
    if call.info.name:
        raise status.method_not_supported("list", call.resource.kind.group_resource)
    page = await select(call, opts)
    return render.many(call, page.records, page.metadata())


class ExpiredContinue(ApiError):
    """The page's revision is compacted; the Status carries a token for the rest as it is now."""

    def __init__(self, token: str) -> None:
        super().__init__(410, "Expired", EXPIRED_TOKEN)
        self._token = token

    def to_status(self) -> dict[str, Any]:
        return {**super().to_status(), "metadata": {"continue": self._token}}


class Page:
    """What a list answers."""

    def __init__(self, records: list[Record], revision: int, next_start: str = "", remaining: int | None = None) -> None:
        self.records, self.revision, self.next_start, self.remaining = records, revision, next_start, remaining

    def metadata(self) -> dict[str, object]:
        out: dict[str, object] = {"resourceVersion": str(self.revision)}
        if self.next_start:
            out["continue"] = options.encode_continue(self.revision, self.next_start)
            if self.remaining is not None:
                out["remainingItemCount"] = self.remaining
        return out


async def select(call: Call, opts: options.ListOptions) -> Page:
    """The page that the options describe."""
    store = call.resource.store
    assert store is not None
    selection = selection_of(call, opts)
    await store.wait_ready()
    if opts.continue_token:
        if opts.resource_version not in ("", "0"):
            raise status.bad_request("specifying resource version is not allowed when using continue")
        return await _continued(call, store, selection, opts)
    revision = options.resource_version(opts.resource_version)
    exact = opts.match == options.EXACT or (revision > 0 and opts.limit > 0 and not opts.match)
    if exact:
        return await _exact(call, store, selection, revision, "", opts.limit)
    if revision:
        try:
            await call.core.feed.wait_for_seen(revision)
        except TooLarge as error:
            raise status.too_large_resource_version(revision, call.core.feed.revision) from error
    elif opts.resource_version != "0":
        await store.consistent()
    return _cached(store, selection, "", opts.limit if opts.resource_version != "0" else 0)


def _cached(store: Store, selection: Selection, start: str, limit: int) -> Page:
    """A page of the cache as it is now. No await: the page is one moment's."""
    cacher = store.cacher
    items = cacher.items
    if selection.name is not None and (selection.namespace or not store.kind.namespaced):
        found = items.get(keys.relative_key(store.kind, selection.namespace, selection.name))
        return Page([found] if found is not None and selection.matches(found) else [], cacher.revision)
    names = cacher.select(selection.namespace)
    if start:
        names = names[bisect.bisect_left(names, start) :]
    if selection.everything:
        if not limit or len(names) <= limit:
            return Page([items[name] for name in names], cacher.revision)
        page = [items[name] for name in names[:limit]]
        return Page(page, cacher.revision, _relative(selection, page[-1]), len(names) - limit)
    records: list[Record] = []
    for name in names:
        found = items[name]
        if selection.matches(found):
            if limit and len(records) == limit:
                return Page(records, cacher.revision, _relative(selection, records[-1]))
            records.append(found)
    return Page(records, cacher.revision)


def _relative(selection: Selection, last: Record) -> str:
    """The start of the next page, relative to the list's own prefix."""
    return last.key.removeprefix(selection.prefix) + "\0"


async def _continued(call: Call, store: Store, selection: Selection, opts: options.ListOptions) -> Page:
    revision, start = options.decode_continue(opts.continue_token)
    start = selection.prefix + start
    if revision == INCONSISTENT:
        await store.consistent()
        return _cached(store, selection, start, opts.limit)
    try:
        return await _exact(call, store, selection, revision, start, opts.limit)
    except ApiError as error:
        if error.code != 410:
            raise
        raise ExpiredContinue(options.encode_continue(INCONSISTENT, start.removeprefix(selection.prefix))) from error


async def _exact(call: Call, store: Store, selection: Selection, revision: int, start: str, limit: int) -> Page:
    """The list as it was at `revision`."""
    cacher = store.cacher
    if revision > cacher.revision:
        try:
            await call.core.feed.wait_for_seen(revision)
        except TooLarge as error:
            raise status.too_large_resource_version(revision, call.core.feed.revision) from error
    if cacher.changed <= revision <= cacher.revision and cacher.ready:
        page = _cached(store, selection, start, limit)
        page.revision = revision
        return page
    records: list[Record] = []
    size = limit if selection.everything else SCAN_PAGE
    while True:
        found, more, count = await store.list_at(selection.namespace, revision, start, size)
        for position, record in enumerate(found):
            if not selection.matches(record):
                continue
            records.append(record)
            if limit and len(records) == limit:
                if not more and position == len(found) - 1:
                    return Page(records, revision)
                remaining = count - len(found) if selection.everything else None
                return Page(records, revision, _relative(selection, record), remaining)
        if not more:
            return Page(records, revision)
        start = found[-1].key + "\0"
