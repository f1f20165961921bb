"""The sandbox, put together from the settings."""

from starlette.applications import Starlette

from browser.sandbox.app import create_sandbox
from browser.sandbox.timing import Timing
from settings import Settings


def make_sandbox(
    settings: Settings,
    timing: Timing = Timing(),  # noqa: B008 - it is frozen
) -> Starlette:
    """Return the sandbox; `state.sandbox.stop` ends its open streams."""
    return create_sandbox(settings.data_dir, timing)
