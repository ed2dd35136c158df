"""Pure: from one configuration to the next (dissertation §4.3, with learners).

A change of one voter is made at once: any two majorities intersect. More than one go through a joint configuration, in which
both the old and the new majority must agree.
"""

from collections.abc import Sequence

from kubette.raft.messages import NO_NODE, ConfChange, ConfChangeType, ConfState, Transition
from kubette.raft.tracker import Config

Change = tuple[ConfChangeType, int]


class ConfChangeError(Exception):
    """The change cannot be made from this configuration."""


def enters_joint(change: ConfChange) -> bool:
    """Whether the change goes through a joint configuration."""
    return change.transition is not Transition.AUTO or len(change.changes) > 1


def apply(config: Config, change: ConfChange) -> Config:
    """The configuration after `change`. Raises ConfChangeError."""
    if not change.changes:
        return leave_joint(config)
    if enters_joint(change):
        return enter_joint(config, change.changes, auto_leave=change.transition is not Transition.JOINT_EXPLICIT)
    return simple(config, change.changes)


def simple(config: Config, changes: Sequence[Change]) -> Config:
    """At most one voter comes or goes."""
    if config.joint:
        raise ConfChangeError("can't apply simple config change in joint config")
    after = _checked(_changed(config, changes))
    if len({*config.voters} ^ {*after.voters}) > 1:
        raise ConfChangeError("more than one voter changed without entering joint config")
    return after


def enter_joint(config: Config, changes: Sequence[Change], auto_leave: bool) -> Config:
    """Both the voters so far and the voters to be must agree, until `leave_joint`."""
    if config.joint:
        raise ConfChangeError("config is already joint")
    if not config.voters:
        raise ConfChangeError("can't make a zero-voter config joint")
    joint = Config(config.voters, config.voters, config.learners, config.learners_next, auto_leave)
    return _checked(_changed(joint, changes))


def leave_joint(config: Config) -> Config:
    """The incoming half alone; demoted voters become learners now."""
    if not config.joint:
        raise ConfChangeError("can't leave a non-joint config")
    return _checked(Config(config.voters, (), tuple(sorted({*config.learners, *config.learners_next}))))


def restore(state: ConfState) -> Config:
    """The configuration a snapshot carries."""
    return _checked(Config(state.voters, state.voters_outgoing, state.learners, state.learners_next, state.auto_leave))


def _changed(config: Config, changes: Sequence[Change]) -> Config:
    voters, learners, learners_next = set(config.voters), set(config.learners), set(config.learners_next)
    for kind, node in changes:
        if node == NO_NODE or kind is ConfChangeType.UPDATE_NODE:
            continue
        if kind is ConfChangeType.ADD_NODE:
            voters.add(node)
            learners.discard(node)
            learners_next.discard(node)
            continue
        voters.discard(node)
        learners.discard(node)
        learners_next.discard(node)
        if kind is ConfChangeType.ADD_LEARNER_NODE:
            # A voter of the outgoing half cannot be a learner yet: voters and learners must not meet.
            (learners_next if node in config.outgoing else learners).add(node)
    if not voters:
        raise ConfChangeError("removed all voters")
    return Config(tuple(sorted(voters)), config.outgoing, tuple(sorted(learners)), tuple(sorted(learners_next)), config.auto_leave)


def _checked(config: Config) -> Config:
    """The invariants of every configuration."""
    voters = {*config.voters, *config.outgoing}
    assert not voters.intersection(config.learners), f"members both vote and learn: {config}"
    assert {*config.learners_next} <= {*config.outgoing}, f"a future learner does not vote in the outgoing config: {config}"
    assert config.joint or not (config.learners_next or config.auto_leave), f"joint-only fields in a simple config: {config}"
    return config
