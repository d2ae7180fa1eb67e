"""What sets the well-known registries apart, as switches of the test registry.

Each profile is one registry as its documentation and its answers describe it: how it lets clients
in, where blobs come from, how it lists tags, what it says of what may not be seen. The table in
`docs/registries.md` is these profiles for people.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Literal

from tests.support.registry import Cdn, Registry, TokenServer

USER, PASSWORD, IDENTITY = "reader", "p4ssw0rd-of-reader", "an-identity-token"


@dataclass(frozen=True, slots=True)
class Profile:
    """One registry.

    Attributes:
        door: `token` is the exchange of a password, `basic` none, `identity` that of a stored
            identity token, by POST.
        user: The name that logins have there.
        realm_elsewhere: Whether tokens come from another host.
        fields: Under which names an answer has the token.
        service: What the challenge names.
        blobs: Where they are: with the registry itself, or behind a redirect of this status.
        page_size: Tags a page, unasked.
        tag_fields: What else a list of tags has.
        referrers: Whether it has the API of the distribution specification 1.1.
        denial: What becomes of a private repository for whoever may not see it.
    """

    door: Literal["token", "basic", "identity"] = "token"
    user: str = USER
    realm_elsewhere: bool = False
    fields: tuple[str, ...] = ("token",)
    service: str = ""
    blobs: int | None = None
    page_size: int | None = None
    tag_fields: Mapping[str, object] | None = None
    referrers: bool = True
    denial: Literal["empty token", "no token", "unauthorized"] = "empty token"


PROFILES = {
    "docker hub": Profile(
        realm_elsewhere=True,
        fields=("token", "access_token"),
        service="registry.docker.io",
        blobs=307,
        page_size=100,
    ),
    "ghcr": Profile(service="ghcr.io", blobs=307, referrers=False, denial="no token"),
    "quay": Profile(service="quay.io", blobs=302, page_size=50),
    "ecr": Profile(door="basic", user="AWS", blobs=307, denial="unauthorized"),
    "artifact registry": Profile(
        user="oauth2accesstoken",
        service="artifact registry",
        blobs=302,
        tag_fields={"child": [], "manifest": {}},
        denial="no token",
    ),
    "acr": Profile(
        door="identity", fields=("access_token",), service="acr", blobs=307, page_size=100
    ),
    "harbor": Profile(user="robot$reader", service="harbor-registry", page_size=100),
    "gitlab": Profile(
        realm_elsewhere=True, service="container_registry", blobs=307, referrers=False
    ),
    "artifactory": Profile(service="artifactory", fields=("token", "access_token")),
}


@contextmanager
def like(profile: Profile, private: str) -> Iterator[tuple[Registry, Callable[[], None]]]:
    """The block in which a registry behaves so; what it calls makes its tokens run out.

    Args:
        profile: How.
        private: A repository that only `profile.user` may see.
    """
    with ExitStack() as stack:
        registry = stack.enter_context(Registry(page_size=profile.page_size))
        registry.referrers_supported = profile.referrers
        registry.tag_fields = profile.tag_fields or {}
        if profile.blobs is not None:
            registry.redirect_blobs(stack.enter_context(Cdn(host="localhost")), profile.blobs)
        if profile.door == "basic":
            registry.demand_basic(profile.user, PASSWORD)
            yield registry, lambda: None
            return
        realm = (
            stack.enter_context(TokenServer(host="localhost")) if profile.realm_elsewhere else None
        )
        auth = registry.demand_token(
            {profile.user: PASSWORD},
            realm,
            private=[private],
            identity_tokens={IDENTITY: profile.user},
            service=profile.service,
            fields=profile.fields,
            denies=profile.denial == "no token",
        )
        yield registry, auth.expire
