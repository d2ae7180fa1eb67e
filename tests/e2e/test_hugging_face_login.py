"""The Hub through its own package: tokens, names and variables as its owner defines them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf
from tests.support.hugging_face import Hub, Repository, hugging_face

NAME = "Org/Tiny-GGUF"
STORED = "[mine]\nhf_token = hf_old\nrefresh_token = refresh_old\nexpires_at = 1700000000\n"


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    with hugging_face() as running:
        weights = tiny_gguf(tmp_path / "tiny.gguf").read_bytes()
        running.repositories[NAME] = Repository({"Tiny-Q4_K_M.gguf": weights}, token="hf_new")
        yield running


@pytest.fixture
def here(cli: CommandLine, hub: Hub, tmp_path: Path):
    """The command line with the Hub's address, and a home of the Hub's tools."""

    def run(*arguments: str, **environ: str):
        home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf")}
        return cli(*arguments, **{**home, **environ})

    return run


@pytest.fixture
def login(tmp_path: Path) -> Path:
    """What `hf auth login` leaves of a login in a browser that ended some time ago."""
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "stored_tokens").write_text(STORED)
    (tmp_path / "hf" / "token").write_text("hf_old")
    return tmp_path / "hf"


def test_a_login_that_has_expired_is_refreshed_and_kept(here, hub: Hub, login: Path) -> None:
    hub.refreshes["refresh_old"] = "hf_new"
    done = here("pull", f"hf.co/{NAME}")
    assert (done.returncode, hub.refreshed) == (0, ["refresh_old"]), done.stderr
    assert (login / "token").read_text() == "hf_new"
    # the next command uses what was kept
    assert here("tags", f"hf.co/{NAME}").returncode == 0
    assert hub.refreshed == ["refresh_old"]


def test_a_login_that_cannot_be_refreshed_says_how_to_log_in_again(
    here, hub: Hub, login: Path
) -> None:
    hub.revoked.add("hf_old")
    done = here("pull", f"hf.co/{NAME}")
    assert (done.returncode, hub.refreshed) == (4, ["refresh_old"])
    assert done.stderr == (
        f"error: {hub.url} rejected the token\n"
        "hint: HF_TOKEN may have expired: set it to a new token, or run `hf auth login`\n"
    )


def test_a_token_of_the_environment_comes_before_the_stored_one(
    here, hub: Hub, login: Path
) -> None:
    assert here("pull", f"hf.co/{NAME}", HF_TOKEN="hf_new").returncode == 0
    assert hub.refreshed == []


def test_no_token_is_shown_where_the_hubs_variable_forbids_it(here, hub: Hub) -> None:
    hub.repositories[NAME].token = None
    forbidden = {"HF_TOKEN": "hf_new", "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1"}
    assert here("pull", f"hf.co/{NAME}", **forbidden).returncode == 0
    assert {token for _, _, token in hub.requests} == {None}
    shown = json.loads(here("config", "--json", **forbidden).stdout)
    assert shown["hf_token"] == {"value": None, "origin": "HF_HUB_DISABLE_IMPLICIT_TOKEN"}


def test_the_hub_learns_nothing_but_the_programs_name(here, hub: Hub) -> None:
    assert here("pull", f"hf.co/{NAME}", HF_TOKEN="hf_new").returncode == 0
    assert here("search", "tiny", "--source", "huggingface").returncode == 0
    assert hub.agents == {"modelrunner"}


def test_a_repository_with_an_earlier_name_is_found(here, hub: Hub) -> None:
    hub.renamed["Old/Name"] = NAME
    assert here("pull", "hf.co/Old/Name", HF_TOKEN="hf_new").returncode == 0
    assert here("path", "hf.co/Old/Name").returncode == 0


def test_a_repository_that_is_disabled_is_said_to_be(here, hub: Hub) -> None:
    hub.repositories[NAME].disabled = True
    done = here("pull", f"hf.co/{NAME}", HF_TOKEN="hf_new")
    assert done.returncode == 4
    assert done.stderr == (
        f"error: hf.co/{NAME}:latest: {hub.url} has disabled access to the "
        f"repository\nhint: https://huggingface.co/{NAME} may say why; choose another repository\n"
    )


def test_what_the_hub_warns_of_does_not_reach_the_terminal(here, hub: Hub) -> None:
    hub.said["X_HF_Warning"] = "topic; \x1b[31mred"
    done = here("pull", "hf.co/no/thing")
    assert (done.returncode, "red" in done.stderr) == (4, False)


@pytest.mark.parametrize("variable", ["HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"])
def test_a_time_limit_that_is_none(here, hub: Hub, variable: str) -> None:
    done = here("pull", f"hf.co/{NAME}", **{variable: "soon"})
    assert (done.returncode, hub.requests) == (2, [])
    assert done.stderr == (
        f"error: {variable}: expected a whole number of seconds\n"
        f"hint: correct {variable}, or unset it\n"
    )
    # whoever does not ask the Hub does not care
    assert here("list", **{variable: "soon"}).returncode == 0
