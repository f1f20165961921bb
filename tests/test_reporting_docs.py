"""docs/reporting.md: the ten questions have the answers that stand there, and its list of views is whole."""

import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import psycopg
import pytest
from fixtures_reports import fortnight

DOC = Path(__file__).parent.parent / "docs/reporting.md"
QUESTIONS = re.findall(r"```sql\n(.+?)```\n\n(\|.+?)\n\n", DOC.read_text(encoding="utf-8") + "\n", re.DOTALL)


def table(columns: list[str], rows: list[tuple[object, ...]]) -> str:
    """Return the rows as a table of Markdown."""
    lines = [columns, ["---"] * len(columns), *[[shown(value) for value in row] for row in rows]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat(" ", "seconds").replace("+00:00", "Z")
    return "" if value is None else str(value)


@pytest.fixture(scope="module")
def filled(postgres: str) -> Iterator[str]:
    with fortnight(postgres) as url:
        yield url


@pytest.mark.parametrize(("query", "answer"), QUESTIONS, ids=range(len(QUESTIONS)))
def test_each_question_has_this_answer(filled: str, query: str, answer: str) -> None:
    with psycopg.connect(filled, options="-c timezone=utc -c role=postrider_report") as connection:
        cursor = connection.execute(query.encode())
        assert cursor.description
        told = table([column.name for column in cursor.description], cursor.fetchall())
    assert told == answer


def test_all_ten_are_asked() -> None:
    assert len(QUESTIONS) == 11, "one has two parts"


def test_each_view_is_told_of(filled: str) -> None:
    with psycopg.connect(filled) as connection:
        views = connection.execute("select viewname from pg_views where schemaname = 'report' order by 1").fetchall()
    (section,) = re.findall(r"^## The views\n(.+?)^## ", DOC.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert sorted(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == [v for (v,) in views]
