"""Write what the docs take from elsewhere, settings, states, calls and examples: `python -m commands.reference`."""

import re
from pathlib import Path
from typing import Any

from commands import calls
from settings import Settings
from tasks.web.states import diagram

ROOT = Path(__file__).parent.parent
MARKDOWN, ENVIRONMENT = ROOT / "docs" / "settings.md", ROOT / ".env.example"
ACCOUNTS, WEBHOOKS = ROOT / "docs" / "accounts.md", ROOT / "docs" / "webhooks.md"
CALLS = ROOT / "docs" / "http.md"


def markdown() -> str:
    """Return docs/settings.md."""
    rows = "\n".join(f"| `{name}` | {_shown(default)} | {meaning} |" for name, default, meaning in _table())
    return f"""# Settings

Environment variables, read once at the start; a file `.env` in the working directory is read too, and the environment
goes before it. White space around a value is cut off, and one of nothing else counts as unset. A wrong value ends the
start with its name, the value (never a secret) and what is allowed. In every limit 0 switches it off.

This page and `.env.example` are made from `settings.py` by `make reference`, and a test keeps them equal to it.

| name | default | meaning |
|---|---|---|
{rows}
"""


def environment() -> str:
    """Return .env.example."""
    lines = [f"# {meaning}\n#{name}={_plain(default)}\n" for name, default, meaning in _table()]
    return (
        "# Every setting with its default. Copy to .env, and take away the # before what you change.\n\n"
        + "\n".join(lines)
    )


def _table() -> list[tuple[str, Any, str]]:
    return [(name.upper(), field.default, field.description or "") for name, field in Settings.model_fields.items()]


def _plain(default: Any) -> str:
    if default is None:
        return ""
    if isinstance(default, tuple):
        return ("," if isinstance(default[0], str) else "-").join(str(part) for part in default)
    return f"{default:g}" if isinstance(default, float) else str(default)


def _shown(default: Any) -> str:
    return f"`{_plain(default)}`" if default is not None else "unset"


def accounts() -> str:
    """Return docs/accounts.md with its diagram drawn anew."""
    return re.sub(
        r"```mermaid\n.*?```", f"```mermaid\n{diagram()}\n```", ACCOUNTS.read_text(), count=1, flags=re.DOTALL
    )


def webhooks() -> str:
    """Return docs/webhooks.md with its examples as they stand in their files."""
    return re.sub(
        r"<!-- (\S+) -->\n```(\w+)\n.*?^```\n",
        lambda found: f"<!-- {found[1]} -->\n```{found[2]}\n{(ROOT / found[1]).read_text()}```\n",
        WEBHOOKS.read_text(),
        flags=re.DOTALL | re.MULTILINE,
    )


if __name__ == "__main__":
    MARKDOWN.write_text(markdown())
    ACCOUNTS.write_text(accounts())
    WEBHOOKS.write_text(webhooks())
    CALLS.write_text(calls.page())
    ENVIRONMENT.write_text(environment())
