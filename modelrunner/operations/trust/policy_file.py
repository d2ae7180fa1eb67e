"""Changes to `verify.toml`: rules added and removed, with whatever else people wrote in it kept.

The file is changed as text, one table `[[rule]]` at a time, and read again before it replaces the
old one: where it would not say what was asked for, nothing is written.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path

from modelrunner.disk.files import disk_errors, write_atomically
from modelrunner.disk.lock import held
from modelrunner.errors import ConfigError, NotFoundError, UsageError
from modelrunner.provenance.certificates import Authority
from modelrunner.provenance.keys import PublicKey
from modelrunner.provenance.policy import (
    VERSION,
    Mode,
    Policy,
    Rule,
    matches,
    parse_policy,
    pattern_of,
    read_policy,
)

KEYS = "keys"
"""The directory beside the policy that keys are copied into."""

_TABLE = re.compile(r"^\s*\[\[?\s*\"?rule\"?\s*\]\]?\s*(#.*)?$")
_DEFAULT = re.compile(r"^\s*default\s*=")
_ENDINGS = (".pub", ".pem", ".crt")
_COPY = re.compile(r".*-[0-9a-f]{12}(\.[a-z]{3})?")
_ODD = re.compile(r"[^A-Za-z0-9._-]+")


class RuleNotFoundError(NotFoundError):
    """The policy has no rule for a pattern."""

    code = "rule_not_found"


@dataclass(frozen=True, slots=True)
class PolicyFile:
    """A policy that can be changed.

    Attributes:
        path: The file; it need not exist.
    """

    path: Path

    def read(self) -> Policy:
        """Return what it says; a policy that asks for nothing where there is no file.

        Raises:
            ConfigError: It says something that is not understood.
        """
        return read_policy(self.path) if self.path.exists() else Policy("off", ())

    def add(self, rule: Rule) -> Rule:
        """Add a rule: before the first one that would hide it, else at the end.

        Its keys and certificates are copied beside the file, so that it can be moved with them.

        Args:
            rule: The rule.

        Raises:
            UsageError: There is a rule for its pattern, or it names no signer.
            ConfigError: A key or the file is not understood.
            StoreAccessError, DiskFullError: It cannot be written.
        """
        with self._alone():
            return self._add(rule)

    def _add(self, rule: Rule) -> Rule:
        policy = self.read()
        pattern = pattern_of(rule.match)
        if any(pattern_of(each.match) == pattern for each in policy.rules):
            raise UsageError(
                f"{self.path} has a rule for {rule.match} already",
                hint=f"remove it first: `modelrunner trust remove '{rule.match}'`",
            )
        if rule.tsa and not rule.ca:
            raise UsageError("--tsa needs --ca", hint="add the --ca whose certificates it dates")
        if (rule.issuer or rule.trusted_root) and not rule.identity:
            raise UsageError(
                "--issuer and --trusted-root need --identity", hint="add --identity WHO"
            )
        if rule.mode != "off" and not rule.names_signer:
            raise UsageError(
                "a rule needs a signer",
                hint="add --key FILE, --ca FILE, or --identity WHO --issuer URL",
            )
        # all of them are read before one is written
        prints = {path: [PublicKey.load(path).fingerprint] for path in rule.keys} | {
            path: Authority.load([path]).fingerprints for path in (*rule.ca, *rule.tsa)
        }
        copies = {path: self._copied(path, found) for path, found in prints.items()}
        new = replace(
            rule,
            keys=tuple(copies[path] for path in rule.keys),
            ca=tuple(copies[path] for path in rule.ca),
            tsa=tuple(copies[path] for path in rule.tsa),
            # what the file names is named from its directory, and what a person names from here
            trusted_root=None if rule.trusted_root is None else rule.trusted_root.absolute(),
        )
        hides = (matches(pattern, each.match) for each in policy.rules)
        place = next((number for number, is_hidden in enumerate(hides) if is_hidden), None)
        head, tables = self._parts()
        place = len(tables) if place is None else place
        tables.insert(place, self._table(new))
        expected = [*policy.rules[:place], new, *policy.rules[place:]]
        self._write(head, tables, replace(policy, rules=tuple(expected)))
        return new

    def remove(self, match: str) -> Rule:
        """Remove the rule for a pattern, and the keys that only it names.

        Raises:
            RuleNotFoundError: There is none.
            ConfigError: The file is not understood.
            StoreAccessError, DiskFullError: It cannot be written.
        """
        with self._alone():
            return self._remove(match)

    def _remove(self, match: str) -> Rule:
        policy = self.read()
        pattern = pattern_of(match)
        patterns = [pattern_of(each.match) for each in policy.rules]
        if pattern not in patterns:
            known = ", ".join(each.match for each in policy.rules[:10])
            raise RuleNotFoundError(
                f"{self.path} has no rule for {match[:200]}",
                hint=f"its rules are for {known}" if known else "`modelrunner trust add` adds one",
            )
        number = patterns.index(pattern)
        rule = policy.rules[number]
        head, tables = self._parts()
        removed = tables.pop(number)
        if number == len(tables):
            # what stands below the last rule, after an empty line, is not about it
            lines = removed.splitlines(keepends=True)
            rest = "".join(lines[_begin_of(lines, len(lines)) :])
            if tables:
                tables[-1] += rest
            else:
                head = [*head, rest]
        left = [*policy.rules[:number], *policy.rules[number + 1 :]]
        self._write(head, tables, replace(policy, rules=tuple(left)))
        kept = {key for each in left for key in (*each.keys, *each.ca, *each.tsa)}
        for key in (*rule.keys, *rule.ca, *rule.tsa):
            if key not in kept and key.parent.name == KEYS and _COPY.fullmatch(key.name):
                # outside: a copy that `add` made
                key.unlink(missing_ok=True)
        return rule

    def set_default(self, mode: Mode) -> None:
        """Say what becomes of models that no rule is for.

        Raises:
            UsageError: It would let nothing pass: no signer is named.
            ConfigError: The file is not understood.
            StoreAccessError, DiskFullError: It cannot be written.
        """
        with self._alone():
            self._set_default(mode)

    def _set_default(self, mode: Mode) -> None:
        policy = self.read()
        head, tables = self._parts()
        said = f'default = "{mode}"\n'
        if any(map(_DEFAULT.match, head)):
            head = [said if _DEFAULT.match(line) else line for line in head]
        else:
            head = [*"".join(head).rstrip("\n").splitlines(keepends=True), "\n", said]
        self._write(head, tables, replace(policy, default=mode))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The block in which no other process changes the file: a rule must not be lost."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with held(self.path.parent / f".{self.path.name}.lock"):
            yield

    def _parts(self) -> tuple[list[str], list[str]]:
        """The lines before the first rule, and the text of each rule."""
        if not self.path.exists():
            return [f"version = {VERSION}\n"], []
        # outside: the person's own configuration
        lines = self.path.read_text(encoding="utf-8").splitlines(keepends=True)
        headers = [number for number, line in enumerate(lines) if _TABLE.match(line)]
        starts = [_begin_of(lines, number) for number in headers]
        head = lines[: starts[0]] if starts else lines
        if head and not head[-1].endswith("\n"):
            head[-1] += "\n"
        edges = [*starts, len(lines)]
        return head, ["".join(lines[first:end]) for first, end in pairwise(edges)]

    def _table(self, rule: Rule) -> str:
        values: list[tuple[str, object]] = [("match", rule.match), ("mode", rule.mode)]
        files = (("keys", rule.keys), ("ca", rule.ca), ("tsa", rule.tsa))
        values += [(name, [self._named(key) for key in found]) for name, found in files if found]
        root = None if rule.trusted_root is None else self._named(rule.trusted_root)
        values += [
            (name, value)
            for name, value in (
                ("identity", rule.identity),
                ("issuer", rule.issuer),
                ("trusted_root", root),
            )
            if value is not None
        ]
        # a string or a list of strings in JSON is one in TOML
        lines = (f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in values)
        return "\n[[rule]]\n" + "\n".join(lines) + "\n"

    def _named(self, path: Path) -> str:
        folder = self.path.parent
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)

    def _copied(self, path: Path, fingerprints: Sequence[str]) -> Path:
        stem = _ODD.sub("-", path.stem)[:60] or "key"
        mark = sha256("".join(fingerprints).encode()).hexdigest()
        name = f"{stem}-{(fingerprints[0] if len(fingerprints) == 1 else mark)[:12]}"
        place = self.path.parent / KEYS / f"{name}{path.suffix if path.suffix in _ENDINGS else ''}"
        place.parent.mkdir(parents=True, exist_ok=True)
        # outside: a key that a person names
        write_atomically(place, path.read_bytes())
        return place

    def _write(self, head: Sequence[str], tables: Sequence[str], expected: Policy) -> None:
        text = "".join(head)
        for table in tables:
            text = text.rstrip("\n") + "\n" + ("" if table.startswith("\n") else "\n") + table
        # names that are not UTF-8 have no place in TOML
        raw = (text.rstrip("\n") + "\n").encode(errors="replace")
        try:
            is_right = parse_policy(self.path, raw) == expected
        except ConfigError:
            is_right = False
        if not is_right:
            raise ConfigError(
                f"cannot change {self.path}: it is written in an unusual way",
                hint="change it in an editor; docs/provenance.md shows its form",
                path=str(self.path),
            )
        # a link, such as one into a directory of settings, stays one
        write_atomically(self.path.resolve(), raw)


def _begin_of(lines: Sequence[str], header: int) -> int:
    """The line where what belongs to a table begins: comments above its header are about it.

    Those that follow the table before without an empty line between are about that one, unless
    there is no empty line at all.
    """
    first = header
    while first > 0 and lines[first - 1].lstrip()[:1] in ("", "#"):
        first -= 1
    empty = (number for number in range(first, header) if not lines[number].strip())
    return next(empty, first)
