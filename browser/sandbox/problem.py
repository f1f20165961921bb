"""Errors as application/problem+json, and the validation of JSON bodies."""

import json
import re
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from errors import FieldError, Invalid, Malformed, RequestError

PHONE = re.compile(r"\d{1,20}")
ACCOUNT = re.compile(r"[A-Za-z0-9_.~-]{1,64}")


def problem(_: Request, error: Exception) -> Response:
    """Make a response of RFC 9457 from a RequestError or Starlette's own HTTPException."""
    if isinstance(error, RequestError):
        body: dict[str, object] = {
            "type": "about:blank",
            "title": error.title,
            "status": error.status,
            "detail": error.detail,
            "code": error.code,
            "errors": [{"field": e.field, "message": e.message} for e in error.errors],
        }
        return JSONResponse(body, error.status, media_type="application/problem+json")
    if not isinstance(error, HTTPException):
        raise error
    title = HTTPStatus(error.status_code).phrase
    body = {"type": "about:blank", "title": title, "status": error.status_code, "detail": error.detail}
    body |= {"code": title.lower().replace(" ", "_"), "errors": []}
    return JSONResponse(body, error.status_code, headers=error.headers, media_type="application/problem+json")


def account_id(request: Request) -> str:
    """Return the id of the account in the path."""
    account = str(request.path_params["account"])
    if not ACCOUNT.fullmatch(account):
        raise _invalid("account", f"{account!r} is not 1 to 64 of A-Z a-z 0-9 _ . ~ -")
    return account


class Fields:
    """The members of a JSON object, each read and checked by name; unknown members are refused."""

    def __init__(self, members: dict[str, object]) -> None:
        self._members = members

    @classmethod
    async def of(cls, request: Request, *allowed: str) -> "Fields":
        """Read a request's body; an empty one is an empty object."""
        raw = await request.body()
        try:
            members = json.loads(raw) if raw else {}
        except (ValueError, RecursionError) as error:
            raise Malformed(f"The body is not JSON: {error}.") from error
        if not isinstance(members, dict):
            raise Malformed("The body must be a JSON object.")
        for name in members:
            if name not in allowed:
                raise _invalid(str(name), "is not a known field")
        return cls(members)

    def text(self, name: str, longest: int = 65_536) -> str:
        """Return a string of at most so many UTF-16 units that is not blank."""
        value = self._members.get(name)
        if not isinstance(value, str) or not value.strip():
            raise _invalid(name, "must be a string that is not blank")
        try:
            units = len(value.encode("utf-16-le")) // 2
        except UnicodeEncodeError as error:
            raise _invalid(name, "holds half of a surrogate pair") from error
        if units > longest or "\0" in value:
            raise _invalid(name, f"must be at most {longest} UTF-16 units and hold no NUL")
        return value

    def phone(self, name: str = "phone") -> str:
        """Return a phone number as digits; a plus and separators are tolerated."""
        return phone_digits(name, self.text(name, 64))

    def texts(self, name: str) -> list[str]:
        """Return a list of strings."""
        value = self._members.get(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise _invalid(name, "must be a list of strings")
        return [str(item) for item in value]

    def choice(self, name: str, *allowed: str) -> str:
        """Return one of the allowed strings."""
        value = self._members.get(name)
        if not isinstance(value, str) or value not in allowed:
            raise _invalid(name, f"{value!r} is not one of {', '.join(allowed)}")
        return value

    def truth(self, name: str) -> bool:
        """Return true or false."""
        value = self._members.get(name)
        if not isinstance(value, bool):
            raise _invalid(name, f"{value!r} is neither true nor false")
        return value

    def number(self, name: str, most: float) -> float:
        """Return a number above 0 and up to `most`."""
        value = self._members.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise _invalid(name, f"{value!r} is not a number above 0 and up to {most:g}")
        return value

    def __contains__(self, name: str) -> bool:
        return self._members.get(name) is not None


def phone_digits(field: str, value: str) -> str:
    """Return the digits of a phone number; raise Invalid, naming the field, if it is not one."""
    digits = re.sub(r"[+\s().-]", "", value)
    if not PHONE.fullmatch(digits):
        raise _invalid(field, f"{value!r} is not a phone number")
    return digits


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field} {message}.", errors=[FieldError(field, message)])
