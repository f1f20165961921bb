"""The source of selectors, for workers and for the commands about selectors."""

from settings import Settings
from tasks.web.selector_source import SelectorSource


def source(settings: Settings) -> SelectorSource:
    """Return the source of selectors. Raise SelectorsWrong for a wrong SELECTORS_KEY."""
    return SelectorSource.at(
        settings.data_dir / "selectors", settings.selectors_file, settings.selectors_url, settings.selectors_key
    )
