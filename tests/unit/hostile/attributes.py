"""What machines say of themselves, as badly as can be, and what must come of it: the same lines, the same leaves."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import quote_from_bytes, unquote_to_bytes

from hypothesis import strategies as st
from pydantic import ValidationError

from bootstrap.model import Cluster, Machine
from bootstrap.records.ledger import Change
from bootstrap.records.model import Evidence
from bootstrap.render.machines import installed_document, live_document
from bootstrap.states import State
from tests.unit.web.conftest import Rack
from tests.unit.web.fakes import W1, W2
from tests.unit.web.fakes import cluster as small_cluster

STRANGER = "52:54:00:ee:00:99"
HARMLESS = {
    "uuid": "4c4c4544-0051-3010-8052-b4c04f4e4d31", "serial": "ABC123", "arch": "x86_64", "platform": "pcbios",
    "manufacturer": "Maker", "product": "Server",
}  # fmt: skip
PIECES = (
    "${mac}", "${net0/mac}", "${", "}", "\n", "\r\n", "\0", "\x1b[2J", "\x85", "\u2028", "\u202e", "#", "&&", "||", "|",
    "&", ";", "shell", "\nshell\n", "|| shell", "&& reboot", "goto failed", ":failed", "imgfree", "#!ipxe",
    "'", '"', "\\",
    "`", "$(id)", "{{ 7*7 }}", "{% x %}", "%0a", "%s%n", "../", "/etc/passwd", "<script>", "null",
    "\ufffd", "\xff", "e\u0301",
    "\U0001f4a9", "=", ",", "console=ttyS0 init=/bin/sh", " ", "\t", "x" * 600, "0", "-1", "[]", "{}", '","a":"',
)  # fmt: skip

hostile = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(PIECES) | st.text(max_size=6), min_size=1, max_size=5).map("".join),
)
"""Text with everything in it that means something to iPXE, a shell, YAML, JSON, Jinja, a terminal."""

raw = hostile.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=40)
"""The same as bytes, which need be no UTF-8."""


@st.composite
def introductions(draw: st.DrawFn) -> tuple[str, bytes]:
    """Return the MAC of a machine and the query by which it introduces itself, a few values of it hostile."""
    mac = draw(st.sampled_from((W1, W2, STRANGER)))
    spelled = draw(st.sampled_from((mac, mac.upper(), mac.replace(":", "-"), mac.replace(":", "%3A"))))
    names = draw(st.lists(st.sampled_from(sorted(HARMLESS)), max_size=4, unique=True))
    values: dict[str, bytes] = {name: value.encode() for name, value in HARMLESS.items()}
    values |= {name: draw(raw) for name in names}
    if draw(st.booleans()):
        values[draw(st.text("abcdefmacuid", min_size=1, max_size=5))] = draw(raw)
    safe = draw(st.sampled_from(("", "+/:=,;$'\"{}|<>!")))  # not every firmware encodes all that it should
    pairs = [
        f"{name}={quote_from_bytes(value, safe=safe)}" for name, value in values.items() if name != "mac"
    ]
    return mac, "&".join([f"mac={spelled}", *pairs]).encode()


def ask(rack: Rack, query: bytes, path: str = "/ipxe") -> tuple[int, str]:
    """Return status and text of the answer to a boot request with this very query."""
    headers = {"X-Firstlight-Listener": "public"}
    answer = rack.client.get(
        path, headers=headers, environ_overrides={"QUERY_STRING": query.decode("latin-1")}
    )
    return answer.status_code, answer.get_data(as_text=True)


# --- iPXE -------------------------------------------------------------------------------------------------

COMMANDS = frozenset(
    (
        "set",
        "echo",
        "imgfree",
        "kernel",
        "initrd",
        "boot",
        "sleep",
        "iseq",
        "inc",
        "dhcp",
        "chain",
        "exit",
        "goto",
    )
) | {"sanboot"}
ARGUMENT = re.compile(r"[A-Za-z0-9._:/=,@+?&$\{\}-]+")
KERNEL_ARGUMENT = re.compile(r"[A-Za-z0-9._:/=,@+-]+")
REASON = re.compile(r"echo firstlight: [A-Za-z0-9 ._:/=,@+()-]{1,200}")
MAC = re.compile(r"52[:-]54[:-]00[:-][0-9a-f:-]{8}")


def lines_of(script: str) -> list[tuple[str, ...]]:
    """Return a script's lines as words, an `echo` as one word each, after checking each against iPXE's grammar."""
    assert script.startswith("#!ipxe\n"), script
    assert script.endswith("\n"), script
    return [_line(line) for line in script[:-1].split("\n")[1:]]


def _line(line: str) -> tuple[str, ...]:
    assert line.isascii(), line
    assert line.isprintable(), line
    if line.startswith("#"):
        return ("#",)
    if re.fullmatch(r":[a-z]+", line):
        return (line,)
    if line.startswith("echo "):
        return ("echo",)
    words = tuple(line.split(" "))
    assert words[0] in COMMANDS, line
    assert all(ARGUMENT.fullmatch(word) or word == "||" for word in words), line
    if words[0] == "kernel":
        assert all(KERNEL_ARGUMENT.fullmatch(word) for word in words[1:-3]), line
        assert words[-3:] == ("||", "goto", "failed"), line
    return words


def judge_script(script: str, harmless: str) -> None:
    """Assert that a script has the lines that it has with harmless values, and that what it shows is one safe line."""
    found, wanted = lines_of(script), lines_of(harmless)
    assert found == wanted, (script, harmless)
    for line, before in zip(script.splitlines(), harmless.splitlines(), strict=True):
        if line.startswith("echo ") and line != before:
            assert REASON.fullmatch(line), line


@dataclass
class Bench:
    """A site with one machine in each state that gets a script of its own, and the scripts of harmless values."""

    rack: Rack
    harmless: Mapping[str, str]

    @classmethod
    def make(cls) -> "Bench":
        """Return the site: w1 installs, w2 waits, the stranger is left alone."""
        rack = Rack()
        rack.site.unknown_buckets = _Bottomless()  # type: ignore[assignment]
        rack.site.machine_buckets = _Bottomless()  # type: ignore[assignment]
        query = "&".join(f"{name}={value}" for name, value in HARMLESS.items())
        scripts = {mac: ask(rack, f"mac={mac}&{query}".encode())[1] for mac in (W1, W2, STRANGER)}
        return cls(rack, scripts)

    def introduce(self, mac: str, query: bytes) -> int:
        """Ask as this machine; assert that it is refused plainly, or gets the lines that it always gets."""
        status, text = ask(self.rack, query)
        if status == 200:
            judge_script(text, self.harmless[W2 if self._contradicted() else mac])
            return status
        assert status == 400, (status, text, query)
        assert set(json.loads(text)) == {"reason"}, text
        return status

    def _contradicted(self) -> bool:
        """Return whether a machine said what it did not say before, so that it waits; then let it go on."""
        records = [self.rack.record(mac) for mac in (W1, W2)]
        stopped = [record for record in records if record.state is State.CONFLICT]
        for record in stopped:
            state = State.ARMED if record.mac == W1 else State.ACCEPTED
            before = record.but(state=state, reason="", evidence=Evidence())
            self.rack.site.ledger.change(record.mac, lambda *_, before=before: Change(record=before))
        return bool(stopped)

    def fail(self, message: str, stage: str) -> int:
        """Have w1's installer give up with this message; assert what the next boot shows, then arm it again."""
        answer = self.rack.tell("failed", message=message, stage=stage)
        if answer.status_code != 200:
            assert answer.status_code == 400, answer.text
            return answer.status_code
        script = self.rack.boot(W1)
        self.rack.operator("GET", "/v1/machines")
        assert self.rack.record().state is State.FAILED
        judge_script(script, self.harmless[W2])
        assert self.rack.operator("POST", "/v1/machines/w1/arm").status_code == 200
        return 200


class _Bottomless:
    """Buckets that never run dry: the clock of these tests stands still."""

    def take(self, key: str) -> bool:
        """Grant everything."""
        del key
        return True


# --- Ignition ---------------------------------------------------------------------------------------------

MARKER = "qqmarkerqq"
CA = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
PLACES = ("name", "pool", "cluster", "domain", "serial", "key", "wipe")
"""Where a value from the configuration comes into a document."""


def documents(cluster: Cluster, machine: Machine) -> list[Any]:
    """Return both documents of a machine as plain JSON, the content of each file taken apart too."""
    made = (live_document(cluster, machine, CA), installed_document(cluster, machine, CA))
    return [_opened(json.loads(document)) for document in made]


def _opened(tree: Any) -> Any:
    for node in tree["storage"]["files"]:
        content = unquote_to_bytes(node["contents"]["source"].removeprefix("data:,")).decode()
        node["contents"] = json.loads(content) if node["path"].endswith(".json") else content
    return tree


@cache
def _base() -> Cluster:
    return small_cluster()


@cache
def _marked(place: str) -> list[Any]:
    return documents(*with_value(place, MARKER))


def with_value(place: str, value: str) -> tuple[Cluster, Machine]:
    """Return the small cluster with `value` at a place, unchecked, as if every check before had failed."""
    rack = _base()
    machine = rack.machines[0]
    pool = rack.pools[0]
    match place:
        case "name":
            machine = machine.model_copy(update={"name": value})
        case "pool":
            pool = pool.model_copy(update={"name": value})
            machine = machine.model_copy(update={"pool": value})
        case "cluster":
            rack = rack.model_copy(update={"metadata": rack.metadata.model_copy(update={"name": value})})
        case "domain":
            rack = rack.model_copy(update={"appliance": rack.appliance.model_copy(update={"domain": value})})
        case "serial":
            select = pool.disk.select.model_copy(update={"serial": value})
            pool = pool.model_copy(update={"disk": pool.disk.model_copy(update={"select": select})})
        case "wipe":
            pool = pool.model_copy(update={"disk": pool.disk.model_copy(update={"wipe": (value,)})})
        case "key":
            rack = rack.model_copy(update={"ssh": rack.ssh.model_copy(update={"authorized_keys": (value,)})})
    pools = (pool, *rack.pools[1:])
    # A copy would keep the tables by name that the original has worked out.
    values = {name: getattr(rack, name) for name in Cluster.model_fields}
    machines = (machine, *rack.machines[1:])
    return Cluster.model_construct(**{**values, "pools": pools, "machines": machines}), machine


def replaced(tree: Any, value: str) -> Any:
    """Return `tree` with `value` in place of the marker, in leaves only: keys and shape stay."""
    match tree:
        case dict():
            return {key: replaced(inner, value) for key, inner in tree.items()}
        case list():
            return [replaced(inner, value) for inner in tree]
        case str():
            return tree.replace(MARKER, value)
        case _:
            return tree


def judge_documents(place: str, value: str) -> None:
    """Assert that both documents are those with the marker, with the value as a leaf in its place."""
    assert documents(*with_value(place, value)) == replaced(_marked(place), value), (place, value)


def accepted(place: str, value: str) -> bool:
    """Return whether a configuration with `value` at a place is taken; if it is, no file may grow a line by it."""
    cluster, _ = with_value(place, value)
    dumped = cluster.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)
    try:
        checked = Cluster.model_validate(dumped)
    except ValidationError:
        return False
    for found, wanted in zip(documents(checked, checked.machines[0]), _marked(place), strict=True):
        for file, before in zip(found["storage"]["files"], wanted["storage"]["files"], strict=True):
            if isinstance(file["contents"], str):
                assert file["contents"].count("\n") == before["contents"].count("\n"), (place, value, file)
    return True
