"""Pure: the texts of the kubelet's events, as the release has them (`describe pod` shows them, people search for them)."""

from kubette.component_base.flags import format_duration

Release = tuple[int, int]


def created(release: Release, container: str) -> str:
    if release >= (1, 35):
        return "Container created"
    return f"Created container: {container}" if release >= (1, 32) else f"Created container {container}"


def started(release: Release, container: str) -> str:
    return "Container started" if release >= (1, 35) else f"Started container {container}"


def already_present(release: Release, image: str) -> str:
    return f'Container image "{image}" already present on machine' + (" and can be accessed by the pod" if release >= (1, 35) else "")


def pulled(release: Release, image: str, pulling_s: float, waiting_s: float, size: int) -> str:
    """`pulling_s` the pull itself, `waiting_s` with the time it waited for its turn."""
    if release < (1, 27):
        return f'Successfully pulled image "{image}" in {format_duration(pulling_s)}'
    text = f'Successfully pulled image "{image}" in {_rounded(pulling_s)} ({_rounded(waiting_s)} including waiting)'
    return text + f". Image size: {size} bytes." if release >= (1, 30) else text


def _rounded(seconds: float) -> str:
    """Durations of pulls are rounded to the millisecond upstream."""
    return format_duration(round(seconds, 3))


def pull_back_off(release: Release, image: str, last_error: str) -> str:
    return (
        f'Back-off pulling image "{image}": ErrImagePull: {last_error}' if release >= (1, 32) and last_error else f'Back-off pulling image "{image}"'
    )


def failed_to_pull(image: str, error: str) -> str:
    return f'Failed to pull image "{image}": {error}'


def never_present(image: str) -> str:
    return f'Container image "{image}" is not present with pull policy of Never'


def restart_back_off(container: str, pod: str) -> str:
    return f"Back-off restarting failed container {container} in pod {pod}"


def crash_loop(delay_s: float, container: str, pod: str) -> str:
    """The message of the CrashLoopBackOff waiting state."""
    return f"back-off {format_duration(delay_s)} restarting failed container={container} pod={pod}"
