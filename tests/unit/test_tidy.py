"""The source keeps the rules that neither ruff nor import-linter know. What fails here says what to do instead."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from kubette.init import programs

pytestmark = pytest.mark.slow  # it reads everything

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "components"
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((SOURCE / "kubette").rglob("*.py"))
    if not path.stem.endswith(("_pb2", "_pb2_grpc"))
}
TESTS = sorted((ROOT / "tests").rglob("*.py"))

# What a `Pure:` module may not know of. `random` and `signal` are allowed as types and numbers: a generator is handed in, nothing is sent.
IMPURE = {
    *("aiohttp", "asyncio", "grpc", "http.client", "http.server", "logging", "multiprocessing", "os", "pathlib", "psutil", "pyroute2", "secrets"),
    *("select", "selectors", "shutil", "socket", "ssl", "subprocess", "tempfile", "threading", "time", "urllib.request", "uuid"),
}
# Bound to be called: pattern → what to use, and where the replacement itself lives.
BANS = {
    r"\btime\.time\(": ("stdx.clock: take a Clock, or SYSTEM_CLOCK.wall()", r"stdx/clock\.py"),
    # TaskGroup.create_task is a scope of its own (`group.create_task`): it cannot leak a task.
    r"(?<!group\.)\bcreate_task\(|\bensure_future\(": ("stdx.tasks.Scope.start", r"stdx/tasks\.py"),
    r"\bget_event_loop\(": ("asyncio.get_running_loop", r"^$"),
    r"\bFIXME\b|\bXXX\b": ("an issue, and its number", r"^$"),
    r"^\s*except Exception:\s*(pass|\.\.\.)": ("handle it, or say why not", r"^$"),
}
# Programs talk to people; the rest logs. A container's launcher and stand-ins write what the programs they stand for write.
PRINTERS = re.compile(
    r"^(cli|etcdctl|kubeadm/cli|runtime/(crictl|launcher|stand_ins/.*)|init/(systemctl|journalctl|service|__main__|spawn)|component_base/run|machines/(packages/apt|ssh))(/|\.py$|$)"
)
# Somebody's home, or the folder this checkout happens to be in.
MACHINE_SPECIFIC = re.compile(rf"(?<!\w)(/home/[a-z]\w*/|/root/\.(cache|local|pyenv)|/Users/|{re.escape(str(ROOT.resolve()))}/)")


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def is_pure(module: str) -> bool:
    return (ast.get_docstring(tree(module)) or "").startswith("Pure:")


def imports(module: str) -> Iterator[str]:
    """Absolute names of what is imported at run time: of our own modules exactly, of others as written."""
    path = MODULES[module]
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    typing_only = {
        id(inner)
        for node in ast.walk(tree(module))
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree(module)):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) + 1 - node.level], *([node.module] if node.module else [])]) if node.level else node.module or ""
            inner = [name for alias in node.names if (name := f"{base}.{alias.name}") in MODULES]
            yield from inner or [base]


def relative(path: Path) -> str:
    return path.relative_to(SOURCE / "kubette").as_posix() if path.is_relative_to(SOURCE) else path.relative_to(ROOT).as_posix()


def test_every_module_says_what_it_is() -> None:
    silent = [relative(path) for module, path in MODULES.items() if not ast.get_docstring(tree(module))]
    silent += [relative(path) for path in TESTS if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))]
    assert silent == []


def test_pure_modules_keep_their_word() -> None:
    broken = []
    for module in filter(is_pure, MODULES):
        for name in imports(module):
            if name in IMPURE or name.split(".")[0] in IMPURE:
                broken.append(f"{module} is Pure and imports {name}")
            elif name in MODULES and not is_pure(name):
                broken.append(f"{module} is Pure and imports {name}, which is not")
        text = MODULES[module].read_text()
        broken += [f"{module} is Pure and calls {call}" for call in re.findall(r"\brandom\.[a-z]\w*\(|(?<![\w.])open\(|\bsignal\.[a-z]\w+\(", text)]
    assert broken == []


@pytest.mark.parametrize("pattern", BANS)
def test_what_is_banned_has_a_replacement(pattern: str) -> None:
    instead, home = BANS[pattern]
    found = [
        f"{relative(path)}:{number}: use {instead}"
        for path in MODULES.values()
        if not re.search(home, relative(path))
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if re.search(pattern, line)
    ]
    assert found == []


def test_only_programs_print() -> None:
    found = [
        f"{relative(path)}:{node.lineno}: log it (component_base.logs)"
        for module, path in MODULES.items()
        if not PRINTERS.match(relative(path))
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert found == []


def test_nothing_names_a_folder_of_one_machine() -> None:
    texts = [*MODULES.values(), *(p for p in TESTS if p != Path(__file__))]
    texts += [p for folder in ("scripts", "systemd", "manifests", ".ci") for p in (ROOT / folder).rglob("*") if p.is_file() and p.suffix != ".pyc"]
    texts += [*ROOT.glob("*.md"), ROOT / "pyproject.toml"]
    found = [f"{path.relative_to(ROOT)}: {hit.group()}" for path in texts for hit in MACHINE_SPECIFIC.finditer(path.read_text())]
    assert found == []


def test_every_program_of_pyproject_exists() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for name, target in scripts.items():
        module, _, function = target.partition(":")
        functions = {node.name for node in tree(module).body if isinstance(node, ast.FunctionDef)}
        imported = {alias.asname or alias.name for node in tree(module).body if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert function in functions | imported, f"{name} = {target}"


def test_the_programs_that_start_warm_are_those_of_pyproject() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert programs.entry_points() == scripts, "the installation is older than pyproject.toml: run scripts/install --dev"


def test_every_script_and_document_that_is_named_exists() -> None:
    """Commands and files in the documents, as `scripts/x`, `tests/…`, `components/…`: a document that names what is gone lies."""
    documents = [*ROOT.glob("*.md"), *(ROOT / "scripts").glob("*.md"), *(ROOT / "manifests").glob("*.md"), *(ROOT / "systemd").glob("*.md")]
    assert documents
    missing = [
        f"{document.relative_to(ROOT)}: {name}"
        for document in documents
        for name in re.findall(r"(?<![\w/.~])((?:scripts|tests|components|manifests|systemd|\.ci)/[\w./-]*\w)", document.read_text())
        if not (ROOT / name).exists()
    ]
    assert missing == []
