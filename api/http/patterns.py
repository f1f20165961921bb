"""Patterns of what is taken, as JSON Schema has them: ECMA-262 without flags. Python reads them too."""

#: Whatever Postgres can hold: no NUL.
TEXT = r"^[^\u0000]*$"
#: And something in it that is no white space. Rust, which judges `\S` for pydantic, counts NEL as white space.
NOT_BLANK = r"^[^\u0000]*[^\s\u0000\u0085][^\u0000]*$"
#: And something in it to read: neither a control character nor one that nobody sees.
READABLE = (
    r"^[^\u0000]*[^\s\u0000-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff]"
    r"[^\u0000]*$"
)
#: A port from 1 to 65535.
PORT_NUMBER = "(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
