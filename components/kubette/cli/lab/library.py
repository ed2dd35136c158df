"""The exercises that come with kubette, one file each."""

from importlib import resources

import yaml

from kubette.cli.lab.exercise import Exercise, parse


def load() -> dict[str, Exercise]:
    """By name, in the order of names."""
    folder = resources.files("kubette.cli.lab").joinpath("exercises")
    found = {}
    for entry in sorted(folder.iterdir(), key=lambda one: one.name):
        if entry.name.endswith(".yaml"):
            name = entry.name.removesuffix(".yaml")
            found[name] = parse(name, yaml.load(entry.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
    return found
