"""Which records a list or watch shows: a namespace, a label selector, a field selector.

The name and the namespace are read off the key; labels and other fields are parsed once a record, and only when a selector asks.
"""

from collections.abc import Callable
from typing import Any

from kubette.apimachinery import selectors, status
from kubette.kube_apiserver.storage.record import Record

Fields = Callable[[dict[str, Any]], dict[str, str]]
KEY_FIELDS = frozenset({"metadata.name", "metadata.namespace"})


class Selection:
    """`matches(record)`; `everything` when neither labels nor fields restrict (the namespace always may)."""

    def __init__(
        self,
        namespace: str,
        labels: selectors.Selector,
        fields: selectors.FieldSelector,
        read_fields: Fields,
        known_fields: frozenset[str],
    ) -> None:
        try:
            fields.check(known_fields | KEY_FIELDS)
        except selectors.SelectorError as error:
            raise status.bad_request(str(error)) from None
        self.namespace = namespace or fields.required_value("metadata.namespace") or ""
        self.name = fields.required_value("metadata.name")
        self.everything = labels.empty and fields.empty
        self.prefix = f"{self.namespace}/" if self.namespace else ""
        self._labels = None if labels.empty else labels
        self._fields = None if fields.empty else fields
        self._read = read_fields
        self._by_key = all(term.field in KEY_FIELDS for term in fields.terms)

    def matches(self, record: Record) -> bool:
        if self.prefix and not record.key.startswith(self.prefix):
            return False
        if self._fields is not None:
            if self._by_key:
                seen = {"metadata.name": record.name, "metadata.namespace": record.namespace}
            else:
                seen = record.fields(self._read)
            if not self._fields.matches(seen):
                return False
        return self._labels is None or self._labels.matches(record.labels())
