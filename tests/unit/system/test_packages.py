"""The command that installs a missing library, by distribution."""

import ssl

import pytest

from modelrunner.system.packages import System, advice, certificates_advice, manager_of

DEBIAN = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\n'
MINT = 'NAME="Linux Mint"\nID=linuxmint\nID_LIKE="ubuntu debian"\n'
ROCKY = 'ID="rocky"\nID_LIKE="rhel centos fedora"\nVERSION_ID="9.4"\n'
LEAP = 'ID="opensuse-leap"\nID_LIKE="suse opensuse"\n'
TUMBLEWEED = "ID='opensuse-tumbleweed'\n"


@pytest.mark.parametrize(
    ("os_release", "manager"),
    [
        (DEBIAN, "apt-get"),
        (MINT, "apt-get"),
        (ROCKY, "dnf"),
        ("ID=fedora\n", "dnf"),
        ("ID=alpine\nVERSION_ID=3.22.0\n", "apk"),
        ("ID=wolfi\n", "apk"),
        ("ID=arch\n", "pacman"),
        ("ID=manjaro\nID_LIKE=arch\n", "pacman"),
        (LEAP, "zypper"),
        (TUMBLEWEED, "zypper"),
        ("ID=nixos\n", None),
        ("", None),
    ],
)
def test_the_package_manager_is_that_of_the_distribution(os_release, manager):
    assert manager_of(os_release) == manager


@pytest.mark.parametrize(
    ("manager", "command"),
    [
        ("apt-get", "`apt-get install libgomp1`"),
        ("dnf", "`dnf install libgomp`"),
        ("microdnf", "`microdnf install libgomp`"),
        ("apk", "`apk add libgomp`"),
        ("pacman", "`pacman -S gcc-libs`"),
        ("zypper", "`zypper install libgomp1`"),
    ],
)
def test_the_command_is_that_of_the_package_manager(manager, command):
    assert advice(["libgomp.so.1"], System(manager)) == command


def test_several_libraries_take_one_command():
    both = ["libgomp.so.1", "libstdc++.so.6"]
    assert advice(both, System("apt-get")) == "`apt-get install libgomp1 libstdc++6`"
    # one package has both
    assert advice(both, System("pacman")) == "`pacman -S gcc-libs`"


def test_it_is_the_command_for_who_asks_and_for_images_without_package_lists():
    system = System("apt-get", privileged=False, has_lists=False)
    assert advice(["libgomp.so.1"], system) == (
        "`sudo apt-get update && sudo apt-get install libgomp1`"
    )


@pytest.mark.parametrize(
    ("library", "told"),
    [
        ("libcuda.so.1", "install NVIDIA's driver; in a container, start it with the GPU"),
        ("libcublasLt.so.12", "install the CUDA runtime of this major version"),
        ("libamdhip64.so.6", "install AMD's ROCm of this version"),
        ("libggml-base.so", "unpack the whole llama.cpp build"),
        ("ld-linux-x86-64.so.2", "use a build for the C library of this system"),
        ("libfoo.so.3", "install the system package that has libfoo.so.3"),
    ],
)
def test_what_no_package_has_is_explained(library, told):
    assert advice([library], System("apt-get")).startswith(told)


def test_a_system_that_is_not_known_gets_the_usual_commands():
    assert advice(["libgomp.so.1"], System(None)) == (
        "`apt-get install libgomp1` on Debian and Ubuntu, `dnf install libgomp` on Fedora,"
        " `apk add libgomp` on Alpine"
    )


def test_a_library_without_a_known_package_is_not_left_out_of_the_command():
    assert advice(["libgomp.so.1", "libfoo.so.3"], System("apt-get")) == (
        "install the system package that has libgomp.so.1 and libfoo.so.3"
    )


def test_a_system_without_certificate_authorities_is_told_how_to_get_them(monkeypatch, tmp_path):
    none = ssl.DefaultVerifyPaths(
        None, str(tmp_path), "SSL_CERT_FILE", "/nowhere/cert.pem", "SSL_CERT_DIR", str(tmp_path)
    )
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: none)
    assert certificates_advice(System("apk")) == (
        "this system has no certificate authorities; install them: `apk add ca-certificates`"
    )
    (tmp_path / "0.pem").touch()
    assert certificates_advice(System("apk")) == "for a private authority set SSL_CERT_FILE"
