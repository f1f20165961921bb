"""Where a worker, and the commands about selectors, find them."""

from settings import Settings
from tasks.web.selector_source import SelectorSource


def source(settings: Settings) -> SelectorSource:
    """Make what finds the selectors. Raise SelectorsWrong for a wrong SELECTORS_KEY."""
    return SelectorSource.at(
        settings.data_dir / "selectors", settings.selectors_file, settings.selectors_url, settings.selectors_key
    )
