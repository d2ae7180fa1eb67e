"""A page that asks for the API key, where a browser would be refused without one."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from modelrunner.serve.web.markup import key_form, response

_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True)
class KeyPage:
    """The application, in which a page for people is refused by another page.

    Attributes:
        app: What refuses.
        is_page: Whether an address is one of a page.
    """

    app: ASGIApp
    is_page: Callable[[str], bool]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["method"] != "GET" or not (self.is_page(scope["path"]) and wants_html(scope)):
            await self.app(scope, receive, send)
            return
        refused = False

        async def replaced(message: Message) -> None:
            nonlocal refused
            if message["type"] == "http.response.start" and message["status"] == _UNAUTHORIZED:
                refused = True
                await response(key_form())(scope, receive, send)
            elif not refused:
                await send(message)

        await self.app(scope, receive, replaced)


def wants_html(scope: Scope) -> bool:
    """Whether a request is a browser's, for a page."""
    return b"text/html" in dict(scope["headers"]).get(b"accept", b"")
