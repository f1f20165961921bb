"""Patterns of text fields for JSON Schema: regular expressions of ECMA-262 without flags, valid in Python too."""

#: Any text that Postgres can store: without NUL.
TEXT = r"^[^\u0000]*$"
#: The same with a character that is no white space. Pydantic's Rust regex counts NEL as white space.
NOT_BLANK = r"^[^\u0000]*[^\s\u0000\u0085][^\u0000]*$"
#: The same with a visible character: no white space, control or invisible one.
READABLE = (
    r"^[^\u0000]*[^\s\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
    r"[^\u0000]*$"
)
#: A port from 1 to 65535.
PORT_NUMBER = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
