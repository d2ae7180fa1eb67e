"""Which proxy an address is reached through, beside what `requests` would take."""

import os
import sys

import pytest
from requests.utils import get_environ_proxies, select_proxy

from modelrunner.registry.proxies import is_resolved_here, proxy_of

PLAIN, TLS, ALL = "http://plain:3128", "http://tls:3128", "http://all:3128"
BOTH = {"http_proxy": PLAIN, "https_proxy": TLS}
URLS = (
    "http://registry.test/v2/",
    "https://registry.test/v2/",
    "https://registry.test:5000/v2/",
    "https://cdn.registry.test/blob?signed=1",
    "https://notregistry.test/",
    "http://10.1.2.3/",
    "http://10.1.2.3:5000/",
    "http://[2001:db8::1]/",
    "http://172.16.5.6:8080/v2/",
)
ENVIRONMENTS = (
    {},
    BOTH,
    {"HTTPS_PROXY": TLS},
    {"HTTP_PROXY": PLAIN},
    {"ALL_PROXY": ALL},
    {"all_proxy": ALL, "https_proxy": ""},
    {"HTTP_PROXY": PLAIN, "REQUEST_METHOD": "GET"},
    {"http_proxy": "plain:3128"},
    {"NO_PROXY": "registry.test"},
    {**BOTH, "NO_PROXY": "*"},
    {**BOTH, "NO_PROXY": "registry.test"},
    {**BOTH, "NO_PROXY": ".registry.test"},
    {**BOTH, "NO_PROXY": "Registry.TEST"},
    {**BOTH, "no_proxy": "registry.test:5000", "NO_PROXY": "*"},
    {**BOTH, "NO_PROXY": " 10.0.0.0/8 , cdn.registry.test"},
    {**BOTH, "NO_PROXY": "10.1.2.3"},
    {**BOTH, "NO_PROXY": "10.1.0.0/33,10.0.0.0/0,10.1.2.3/x,/8,172.16.0.0/12"},
    {**BOTH, "NO_PROXY": "2001:db8::1"},
    {**BOTH, "NO_PROXY": ",,test,."},
)


@pytest.fixture
def environment(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)

    def be(values):
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return be


@pytest.mark.parametrize("values", ENVIRONMENTS, ids=str)
def test_a_proxy_is_the_one_that_requests_would_take(environment, values):
    environment(values)
    wanted = {url: select_proxy(url, get_environ_proxies(url)) or None for url in URLS}
    assert {url: proxy_of(url) for url in URLS} == wanted


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:5000", "[::1]:5000", "a.localhost"])
def test_this_machine_is_spoken_to_directly(environment, host):
    environment(BOTH)
    assert proxy_of(f"http://{host}/v2/") is None
    assert not is_resolved_here(f"http://{host}/v2/")


def test_a_name_is_resolved_here_where_no_proxy_does(environment):
    assert is_resolved_here("https://registry.test/")
    environment({"NO_PROXY": "registry.test"})
    assert is_resolved_here("https://registry.test/")
    environment({"HTTPS_PROXY": TLS})
    assert is_resolved_here("https://registry.test/")
    assert not is_resolved_here("https://cdn.test/")


def test_nothing_is_loaded_where_no_proxy_is_named(environment, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setitem(sys.modules, "urllib.request", None)
    assert proxy_of("https://registry.test/") is None
    environment({"HTTPS_PROXY": TLS})
    with pytest.raises(ImportError):
        proxy_of("https://registry.test/")
