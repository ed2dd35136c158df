"""Every command of every document is typed, in the order of the document, and prints what the document shows.

In a network of its own, so that 6443 and the node ports are free, and with a home of its own. What would run these tests again, or measure for minutes, is asked for less.
"""

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.documentation import ROOT, Session, blocks, documents, missing_line, steps

pytestmark = [pytest.mark.root, pytest.mark.needs("unshare", "curl", "etcdctl")]

LAST = "README.md"  # its end is the end of the cluster
LESS = (
    (re.compile(r"^scripts/test\b([^#]*).*"), r"scripts/test \1 --collect-only -q"),
    (re.compile(r"^scripts/lint\b.*"), "scripts/lint --help || test $? = 2"),
    (re.compile(r"^scripts/bench\b.*"), "scripts/bench --help || test $? = 2"),
    (re.compile(r"^(.*harness\.apiserver [^)]*)\).*"), r"! timeout --signal=INT 20 bash -c '\1)'"),
)


@pytest.fixture(scope="module")
def session() -> Iterator[Session]:
    directory = Path(tempfile.mkdtemp(prefix="kubette-docs-"))
    environment = {**os.environ, "HOME": str(directory), "KUBETTE_HOME": str(directory / "home"), "KUBECONFIG": str(directory / "kubeconfig")}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    session = Session(environment, ("unshare", "--net"))
    session.run("ip link set lo up")
    try:
        yield session
    finally:
        session.run("for name in $(kubette list | awk 'NR > 1 { print $1 }'); do kubette down --name $name --purge; done")
        session.close()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.mark.parametrize("document", sorted((one for one in documents() if steps(one)), key=lambda one: (one == LAST, one)))
def test_every_command_of_the_document_works(session: Session, document: str) -> None:
    if document == LAST:  # it begins with a cluster that was never there
        session.run("kubette down --purge")
    else:
        code, printed = session.run("kubette status > /dev/null 2>&1 || kubette up")
        assert code == 0, printed
    for step in steps(document):
        command = step.command
        for pattern, instead in LESS:
            command = pattern.sub(instead, command)
        code, printed = session.run(command)
        assert code == 0, f"{document}: {step.command}: exit code {code}\n{printed}"
        if command == step.command:
            line = missing_line(step, printed)
            assert not line, f"{document}: {step.command}: not printed: {line}\n{printed}"


def test_no_command_hides_in_a_block_that_is_not_typed() -> None:
    for document in documents():
        for language, text in blocks(document):
            typed = [line for line in text.splitlines() if re.match(r"(\$ |kubette |kubectl |scripts/|etcdctl )", line)]
            assert language == "console" or not typed, f"{document}: {typed}"


def test_what_documents_name_is_there() -> None:
    for document in documents():
        text = (ROOT / document).read_text()
        for path in re.findall(r"`((?:scripts|systemd|manifests|tests|components)/[\w./-]+)[` ]", text):
            assert (ROOT / path).exists(), f"{document}: {path}"
