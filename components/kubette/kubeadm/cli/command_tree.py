"""What `kubeadm help`, `--help` and `completion` show of the tree of commands, in cobra's layout and upstream's words.

A command declares its flags and then parses; asked for help it ends there. That is how its flags are learnt here, once, when somebody asks.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kubette.component_base.flags import FlagSet
from kubette.kubeadm.cli import phase_words
from kubette.kubeadm.phases.workflow import Phase

ROOT = """

    ┌──────────────────────────────────────────────────────────┐
    │ KUBEADM                                                  │
    │ Easily bootstrap a secure Kubernetes cluster             │
    │                                                          │
    │ Please give us feedback at:                              │
    │ https://github.com/kubernetes/kubeadm/issues             │
    └──────────────────────────────────────────────────────────┘

Example usage:

    Create a two-machine cluster with one control-plane node
    (which controls the cluster), and one worker node
    (where your workloads, like Pods and Deployments run).

    ┌──────────────────────────────────────────────────────────┐
    │ On the first machine:                                    │
    ├──────────────────────────────────────────────────────────┤
    │ control-plane# kubeadm init                              │
    └──────────────────────────────────────────────────────────┘

    ┌──────────────────────────────────────────────────────────┐
    │ On the second machine:                                   │
    ├──────────────────────────────────────────────────────────┤
    │ worker# kubeadm join <arguments-returned-from-init>      │
    └──────────────────────────────────────────────────────────┘

    You can then repeat the second step on as many other machines as you like.
"""

_WORKFLOWS = {"init": "init", "join": "join", "reset": "reset", "upgrade apply": "upgrade", "upgrade node": "upgrade"}


@dataclass(slots=True)
class Node:
    """A command: what it is called (with its parents), what is said of it, what is below it. `runs` when it does something by itself."""

    path: tuple[str, ...]
    short: str
    long: str = ""
    arguments: str = ""
    runs: bool = False
    children: dict[str, "Node"] = field(default_factory=dict)

    def show(self, flags: FlagSet, inherited: FlagSet) -> str:
        """cobra's default template."""
        name = " ".join(self.path)
        lines = [(self.long or self.short).rstrip("\n"), "", "Usage:"]
        # A group runs too: it shows this. Only the root does not.
        if self.runs or (self.children and len(self.path) > 1):
            lines.append(f"  {name}{f' {self.arguments}' if self.arguments else ''} [flags]")
        if self.children:
            lines.append(f"  {name} [command]")
            listed = {**{key: node.short for key, node in self.children.items()}, **({"help": HELP} if len(self.path) == 1 else {})}
            width = max(11, *map(len, listed))
            lines += ["", "Available Commands:", *(f"  {key.ljust(width)} {listed[key]}" for key in sorted(listed))]
        lines += ["", "Flags:", *flags.lines(f"help for {self.path[-1]}")]
        if inherited.flags:
            lines += ["", "Global Flags:", *inherited.lines()]
        if self.children:
            lines += ["", f'Use "{name} [command] --help" for more information about a command.']
        return "\n".join(lines)


HELP = "Help about any command"


def tree(groups: dict[str, str], commands: dict[str, tuple[str, str, str]]) -> Node:
    """All commands, with the phases of the workflows as commands of their own."""
    root = Node(("kubeadm",), "", ROOT)
    for name, text in sorted({**groups, **{name: text for name, (_, _, text) in commands.items()}}.items()):
        words = name.split()
        above = root
        for word in words[:-1]:
            above = above.children[word]
        node = above.children[words[-1]] = Node(("kubeadm", *words), text, arguments=_ARGUMENTS.get(name, ""), runs=name in commands)
        workflow = name.removesuffix(" phase")
        if workflow in _WORKFLOWS:
            phases = _phases(workflow)
            if name.endswith(" phase"):
                node.runs = False
                _add_phases(node, phases)
            else:
                node.long = (
                    f'{text}\n\nThe "{phase_words.USES[workflow]}" command executes the following phases:\n```\n{_list(workflow, phases)}\n```\n'
                )
    return root


# What stands after a command besides flags.
_ARGUMENTS = {
    "completion": "SHELL",
    "join": "[api-server-endpoint]",
    "token create": "[token]",
    "token delete": "[token-value] ...",
    "upgrade apply": "[version]",
    "upgrade diff": "[version]",
    "upgrade plan": "[version]",
}


def _phases(workflow: str) -> Sequence[Phase[object]]:
    import importlib

    module = importlib.import_module(f"kubette.kubeadm.phases.{_WORKFLOWS[workflow]}")
    name = {"upgrade apply": "APPLY", "upgrade node": "NODE"}.get(workflow, "PHASES")
    found: Sequence[Phase[object]] = getattr(module, name)
    return found


def _add_phases(node: Node, phases: Sequence[Phase[object]]) -> None:
    for phase in phases:
        below = node.children[phase.name] = Node((*node.path, phase.name), phase.short, runs=not phase.children)
        if phase.children:
            below.children["all"] = Node((*below.path, "all"), phase_words.everything(phase.name), runs=True)
        for child in phase.children:
            below.children[child] = Node((*below.path, child), phase_words.child(phase.name, child), runs=True)


def _list(workflow: str, phases: Sequence[Phase[object]]) -> str:
    rows = []
    for phase in phases:
        rows.append((phase.name, phase.short))
        rows += [(f"  /{child}", phase_words.child(phase.name, child)) for child in phase.children]
    width = max(len(name) for name, _ in rows)
    # What is below is indented, text and all.
    return "\n".join(f"{name.ljust(width + (0 if name.startswith(' ') else -2))}  {text}" for name, text in rows)


def find(root: Node, words: Sequence[str]) -> tuple[Node, list[str]]:
    """The command that the words begin with, and the rest."""
    node, rest = root, list(words)
    while rest and rest[0] in node.children:
        node = node.children[rest.pop(0)]
    return node, rest


def candidates(root: Node, words: Sequence[str], begun: str, flags_of: Callable[[Node], FlagSet]) -> list[tuple[str, str]]:
    """What the word that is begun could become, with what is said of each."""
    node, rest = find(root, words)
    if begun.startswith("-"):
        flags = flags_of(node).flags.values()
        return sorted((f"--{flag.name}", flag.help) for flag in flags if f"--{flag.name}".startswith(begun))
    if rest:
        return []
    if node.path == ("kubeadm", "completion"):
        return [(shell, "") for shell in ("bash", "zsh") if shell.startswith(begun)]
    listed = {**{name: below.short for name, below in node.children.items()}, **({"help": HELP} if node is root else {})}
    return sorted((name, text) for name, text in listed.items() if name.startswith(begun))
