"""The session that all requests to a registry go through: `requests`, without its habits."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import requests


def new_session() -> "requests.Session":
    """A session that keeps no cookies and follows nothing by itself."""
    from http.cookiejar import DefaultCookiePolicy

    import requests

    # made here, not by oras: its provider loads a checker of schemas, a quarter of a start
    session = requests.Session()
    # some registries take whoever keeps cookies for a browser
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    session.headers["User-Agent"] = "modelrunner"
    # even where it is told not to follow, requests reads the whole body of a redirect to see
    # where it leads; that is for `Exchange` to see
    session.get_redirect_target = lambda _response: None  # type: ignore[assignment, method-assign]
    return session
