"""The page for chats: which addresses are its files, and what it may do."""

from dataclasses import replace

import pytest

from modelrunner.serve.web.chat_files import INDEX, ChatFile, ChatFiles, address, policy, split
from tests.support.serving import Scripted, gateway, model

ONE = model("ai/one")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/ui/ai/one:latest/index.html", ("ai/one:latest", "index.html")),
        ("/ui/hf.co/a/b:Q4/_app/version.json", ("hf.co/a/b:Q4", "_app/version.json")),
        ("/ui/one/_app/immutable/bundle.a_b-1.js", ("one", "_app/immutable/bundle.a_b-1.js")),
        ("/ui/one/favicon.ico", ("one", "favicon.ico")),
        ("/ui/one/props", None),
        ("/ui/one/v1/models", None),
        ("/ui/one/_app/../props", None),
        ("/ui/index.html", None),
        ("/v1/models/index.html", None),
    ],
)
def test_an_address_means_a_file_of_the_page_of_a_model(
    path: str, found: tuple[str, str] | None
) -> None:
    assert split(path) == found


def test_the_address_of_a_model_is_split_into_its_name_and_the_page() -> None:
    assert split(address("hf.co/Org/Repo:Q4_K_M")) == ("hf.co/Org/Repo:Q4_K_M", INDEX)


def test_files_are_everybodys_once_the_page_was_handed_out() -> None:
    files = ChatFiles()
    assert "/ui/one/index.html" not in files
    files.files[INDEX] = ChatFile(b"", "text/html")
    assert "/ui/one/index.html" in files
    assert "/ui/one/_app/version.json" in files
    for path in ("/ui/one/props", "/ui/one/v1/models", "/v1/models", "/", "/metrics"):
        assert path not in files


def test_the_page_may_do_nothing_beyond_this_server() -> None:
    index = b"<html><script>\n1 + 1</script><script src='./a.js'></script></html>"
    directives = dict(each.strip().split(" ", 1) for each in policy(index).split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["script-src"] == (
        "'self' 'wasm-unsafe-eval' 'sha256-N2wGIybcZCJL7JAtOw1oFUl74/S6SRP9RGZK68LYFJg='"
    )
    assert directives["connect-src"] == "'self' data: blob:"
    assert directives["frame-ancestors"] == "'none'"
    assert directives["form-action"] == "'none'"
    assert "http" not in policy(index)
    assert "*" not in policy(index)


def test_without_the_option_there_is_no_page_and_no_link_to_one() -> None:
    runtime = Scripted()
    with gateway(runtime, ONE) as running:
        for path in ("/ui", "/ui/one", "/ui/one/index.html", "/ui/one/props", "/ui/one/v1/models"):
            assert running.get(path).status == 404
        assert 'class="chat"' not in running.get("/", Accept="text/html").body.decode()
        assert runtime.started == []


def paged(name: str) -> object:
    one = model(name)
    return replace(one, spec=replace(one.spec, ui=True))


def test_each_model_that_chats_has_a_link_and_embedding_models_have_none() -> None:
    vectors = model("ai/vectors", kind="embedding")
    with gateway(Scripted(), paged("ai/one"), paged("ai/two"), vectors) as running:
        page = running.get("/", Accept="text/html").body.decode()
        first = running.get("/ui")
        other = running.get("/ui/two")
        none = running.get("/ui/vectors/index.html")
    assert page.count('class="chat"') == 2
    assert 'href="/ui/ai/two:latest/index.html"' in page
    assert (first.status, first.headers["location"]) == (307, "/ui/ai/one:latest/index.html")
    assert (other.status, other.headers["location"]) == (307, "/ui/ai/two:latest/index.html")
    assert none.status == 404


def test_the_page_of_a_model_asks_that_model_whatever_it_calls_it() -> None:
    runtime = Scripted()
    with gateway(runtime, paged("ai/one"), paged("ai/two")) as running:
        asked = {"model": "one", "messages": [{"role": "user", "content": "hi"}]}
        assert running.post("/ui/ai/two:latest/v1/chat/completions", asked).status == 200
        del asked["model"]
        assert running.post("/ui/ai/two:latest/v1/chat/completions", asked).status == 200
        models = running.get("/ui/two/v1/models").json
        props = running.get("/ui/two/props").json
    assert runtime.started == ["ai/two:latest"]
    assert [each["id"] for each in models["data"]] == ["ai/two:latest"]
    assert props["default_generation_settings"]["n_ctx"] == 8
    assert props["model_alias"] == "ai/two:latest"


def test_nothing_below_the_page_is_answered_without_the_key_nor_to_other_pages() -> None:
    runtime = Scripted()
    base = "/ui/ai/one:latest"
    with gateway(runtime, paged("ai/one"), api_key="sesame") as running:
        asked = {"messages": [{"role": "user", "content": "hi"}]}
        for path in ("props", "v1/models", "tools", "slots", "build.json"):
            assert running.get(f"{base}/{path}").status == 401
        assert running.post(f"{base}/v1/chat/completions", asked).status == 401
        assert running.get(f"{base}/index.html").status == 401
        form = running.get(f"{base}/index.html", Accept="text/html").body.decode()
        assert 'name="key"' in form
        key = {"Authorization": "Bearer sesame"}
        evil = {**key, "Origin": "https://evil.example"}
        assert running.get(f"{base}/props", **evil).status == 403
        assert running.post(f"{base}/v1/chat/completions", asked, **evil).status == 403
        rebound = {**key, "Host": "evil.example"}
        assert running.get(f"{base}/index.html", **rebound).status == 403
        assert running.get(f"{base}/props", **key).status == 200
    assert runtime.started == []


def test_a_model_that_cannot_be_loaded_is_explained_on_a_page() -> None:
    runtime = Scripted(refuses=True)
    with gateway(runtime, paged("ai/one")) as running:
        address = "/ui/ai/one:latest/index.html"
        browser = running.get(address, Accept="text/html")
        program = running.get(address)
    assert browser.status == program.status == 500
    assert '<p id="problem">it does not start; update it</p>' in browser.body.decode()
    assert browser.headers["content-security-policy"].startswith("default-src 'none'; style-src")
    assert program.error == "it does not start; update it"
