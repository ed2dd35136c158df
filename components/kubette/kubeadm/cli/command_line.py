"""What kubeadm's commands share: their output, the flags that many have, and the loop that runs them."""

import asyncio
import datetime
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from kubette.component_base.flags import FlagError, FlagSet
from kubette.kubeadm import config
from kubette.kubeadm.config import ConfigError

T = TypeVar("T")


def say(line: str) -> None:
    print(line, flush=True)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def parse(flag_set: FlagSet, words: list[str], arguments: int = 0) -> Any:
    """Raises FlagError for an unknown flag or more than `arguments` arguments."""
    flag_set.int("v", 0, "number for the log level verbosity", shorthand="v")
    options = flag_set.parse(words)
    if len(options.args) > arguments:
        raise FlagError(f'unknown command "{options.args[arguments]}" for "{flag_set.program}"')
    return options


def required(options: Any, *names: str) -> None:
    missing = [name for name in names if name not in options.changed]
    if missing:
        quoted = ", ".join(f'"{name}"' for name in missing)
        raise FlagError(f"required flag(s) {quoted} not set")


def admin_flags(flag_set: FlagSet) -> None:
    flag_set.string("kubeconfig", f"{config.KUBERNETES_DIR}/admin.conf", "The kubeconfig file to use when talking to the cluster.")


FORMS = ("text", "json", "yaml")


def output_flag(flag_set: FlagSet) -> None:
    flag_set.string("output", "text", f"Output format. One of: {'|'.join(FORMS)}.", shorthand="o")


def output(kind: str, **fields: Any) -> dict[str, Any]:
    """A document of kubeadm's output API."""
    return {"kind": kind, "apiVersion": "output.kubeadm.k8s.io/v1alpha3", **fields}


def print_as(options: Any, text: str, document: Callable[[], dict[str, Any]]) -> None:
    """The text, or the document as -o wants it. Raises ConfigError."""
    if options.output == "text":
        say(text)
    else:
        show(document(), options.output)


def show(document: dict[str, Any], form: str) -> None:
    """A document as `-o json` or `-o yaml` prints it. Raises ConfigError for another form."""
    match form:
        case "json":
            say(json.dumps(document, indent=4))
        case "yaml":
            import yaml

            say(yaml.safe_dump(document, sort_keys=False).rstrip())
        case other:
            raise ConfigError(f"invalid output format: {other}")


def read_text(path: str) -> str:
    """The file of `--config`. Raises ConfigError."""
    try:
        return Path(path).read_text()
    except OSError as error:
        raise ConfigError(f'unable to read config from "{path}": open {path}: {(error.strerror or str(error)).lower()}') from error
