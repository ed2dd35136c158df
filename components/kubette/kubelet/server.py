"""placeholder"""

from typing import Any


async def start(*args: Any) -> None:
    return
