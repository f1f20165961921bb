"""Normalises message texts: line ends, and characters that Postgres cannot store. Pure."""

import re

#: CR LF, CR, NEL, LS, PS, and the vertical tab of old word processors (Unicode Standard 5.8, table 5-1)
LINE_ENDS = re.compile("\r\n|[\r\x0b\x85\u2028\u2029]")


def even_breaks(text: str) -> str:
    """Write every line end as a line feed: a page may treat other ones as characters, or drop them."""
    return LINE_ENDS.sub("\n", text)


def printable(text: str) -> str:
    """Remove what Postgres cannot store: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()
