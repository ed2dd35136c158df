"""The reader of stories is itself judged: it must see a story that goes another way."""

from pathlib import Path

import pytest

from harness import datadriven
from harness.datadriven import Command, StoryError

STORY = """# Counting.
say a b

count to=3
----
1
2
3

say c
"""


def count(command: Command) -> str:
    return "\n".join(str(each) for each in range(1, int(command.option("to", "0")) + 1)) if command.name == "count" else ""


def test_a_command_has_arguments_and_options() -> None:
    assert datadriven.parse("members 3 pre-vote learners=(4, 5) max=2") == Command(
        "members", ("3", "pre-vote"), {"learners": ("4", "5"), "max": ("2",)}
    )


def test_a_story_that_goes_as_told_passes(tmp_path: Path) -> None:
    path = tmp_path / "story.txt"
    path.write_text(STORY)
    datadriven.run(path, count, rewrite=False)


@pytest.mark.parametrize(
    "wrong", [STORY.replace("3\n\nsay", "4\n\nsay"), STORY.replace("----\n1\n2\n3\n", ""), STORY.replace("b\n\n", "b\n----\nb\n\n")]
)
def test_a_story_that_goes_another_way_is_seen_and_rewritten(tmp_path: Path, wrong: str) -> None:
    path = tmp_path / "story.txt"
    path.write_text(wrong)
    with pytest.raises(StoryError, match=r"story.txt:\d: (count to=3|say a b)"):
        datadriven.run(path, count, rewrite=False)
    datadriven.run(path, count, rewrite=True)
    datadriven.run(path, count, rewrite=False)
    assert path.read_text() == STORY
