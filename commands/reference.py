"""Write the generated parts of docs/ (settings, states, calls, examples): `python -m commands.reference`."""

import re
from pathlib import Path
from typing import Any

from commands import http_docs
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

This page is for the operator: every setting with its default and meaning. Settings are environment variables. They are
read once, at the start, also from a file `.env` in the working directory; the environment takes precedence.

White space around a value is removed, and an empty value counts as unset. With a wrong value the process does not
start, and prints the name, the value (unless it is a secret) and what is allowed. For every limit, 0 means no limit.

`make reference` makes this page and `.env.example` from `settings.py`, and a test checks that they are up to date.

| name | default | meaning |
|---|---|---|
{rows}
"""


def environment() -> str:
    """Return .env.example."""
    lines = [f"# {meaning}\n#{name}={_plain(default)}\n" for name, default, meaning in _table()]
    return (
        "# Every setting with its default. Copy this file to .env, and remove the # before what you set.\n\n"
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
    """Return docs/accounts.md with a new diagram."""
    return re.sub(
        r"```mermaid\n.*?```", f"```mermaid\n{diagram()}\n```", ACCOUNTS.read_text(), count=1, flags=re.DOTALL
    )


def webhooks() -> str:
    """Return docs/webhooks.md with the examples of docs/verify."""
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
    CALLS.write_text(http_docs.page())
    ENVIRONMENT.write_text(environment())
