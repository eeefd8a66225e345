"""Errors in OpenAI's shape."""

from typing import Any


class ApiError(Exception):
    """A request that is refused, with the HTTP status and, where there is one, the field that it is about."""

    def __init__(
        self,
        status: int,
        message: str,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = headers or {}

    def json(self) -> dict[str, Any]:
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def internal_error() -> ApiError:
    """Returns what a client learns of a failure of the server."""
    return ApiError(500, "the server failed; its log has the reason")
