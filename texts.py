"""What a message's text is made of, for those who accept it, type it, read it and store it. Pure."""

import re

#: CR LF, CR, NEL, LS, PS, and the vertical tab of old word processors (Unicode Standard 5.8, table 5-1)
LINE_ENDS = re.compile("\r\n|[\r\x0b\x85\u2028\u2029]")


def even_breaks(text: str) -> str:
    """Write every line end as a line feed: a page may take another one for a character, or for nothing."""
    return LINE_ENDS.sub("\n", text)


def printable(text: str) -> str:
    """Leave out what Postgres cannot hold: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode("utf-8", "ignore").decode()
