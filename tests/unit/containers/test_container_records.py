"""What web accepts in its container reaches deploy.py, and what makes no sense does not."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from bootstrap import accepted, allotment
from bootstrap.containers.records import MOST_BYTES, Records
from bootstrap.disk import holding
from bootstrap.errors import StateError
from bootstrap.node_programs import RECORD
from bootstrap.records.model import Accepted

W7 = Accepted(mac="52:54:00:aa:00:07", name="w7", pool="workers")
W8 = Accepted(mac="52:54:00:aa:00:08", name="w8", pool="workers", address="10.0.0.8")


class Both:
    """The work folder and web's own."""

    def __init__(self, folder: Path) -> None:
        self.work, self.theirs = folder / "work", folder / "theirs"
        for made in (self.work, self.theirs):
            made.mkdir()
        self.records = Records(self.work, self.theirs, put)

    def web_writes(self, name: str, value: Any) -> Path:
        path = self.theirs / name
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        return path


def put(path: Path, content: bytes) -> None:
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    fresh.replace(path)


@pytest.fixture
def both(tmp_path: Path) -> Both:
    return Both(tmp_path)


def test_a_machine_that_web_accepted_is_in_the_work_folder(both: Both) -> None:
    accepted.write(both.work, [W7])
    accepted.write(both.theirs, [W8])
    both.web_writes(allotment.FILE, {"w8": 4})

    assert both.records.follow()
    assert accepted.read(both.work) == accepted.read(both.theirs) == (W7, W8)
    assert allotment.recorded(both.work) == {"w8": 4}
    assert not both.records.follow()


def test_nothing_is_lost_when_a_container_begins_anew(both: Both) -> None:
    accepted.write(both.work, [W7])
    allotment.record(both.work, {"w1": 0, "w7": 1})
    (both.work / RECORD).write_text("{}")

    both.records.join()

    assert accepted.read(both.theirs) == (W7,)
    assert allotment.recorded(both.theirs) == {"w1": 0, "w7": 1}
    assert (both.theirs / RECORD).read_text() == "{}"


def test_a_number_is_given_out_once_though_both_gave_it_out_at_one_time(both: Both) -> None:
    allotment.record(both.work, {"w1": 0, "w2": 1})
    allotment.record(both.theirs, {"w1": 0, "w7": 1, "w8": 2})

    both.records.join()

    assert allotment.recorded(both.work) == {"w1": 0, "w2": 1, "w8": 2} == allotment.recorded(both.theirs)


def test_which_programs_nodes_run_is_not_for_web_to_say(both: Both) -> None:
    (both.work / RECORD).write_text('{"kubelet": 1}')
    both.web_writes(RECORD, '{"kubelet": 2}')

    both.records.join()
    assert (both.work / RECORD).read_text() == '{"kubelet": 1}' == (both.theirs / RECORD).read_text()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[7]",
        '[{"mac": "52:54:00:aa:00:08", "name": "../w8", "pool": "workers"}]',
        '[{"mac": "nothing", "name": "w8", "pool": "workers"}]',
        '[{"mac": "52:54:00:aa:00:08", "name": "w8", "pool": "workers", "address": "10.0.0.300"}]',
        "[" * 100_000,
    ],
)
def test_what_makes_no_sense_is_replaced_and_not_taken(both: Both, text: str) -> None:
    accepted.write(both.work, [W7])
    both.web_writes(accepted.FILE, text)

    both.records.join()
    assert accepted.read(both.work) == (W7,) == accepted.read(both.theirs)


def test_a_link_a_pipe_a_folder_and_a_flood_are_not_read(both: Both, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    accepted.write(tmp_path, [W8])
    (tmp_path / accepted.FILE).rename(secret)
    accepted.write(both.work, [W7])
    path = both.theirs / accepted.FILE
    (both.theirs / allotment.FILE).mkdir()

    path.symlink_to(secret)
    both.records.join()
    assert accepted.read(both.work) == (W7,)
    assert not path.is_symlink()

    path.unlink()
    os.mkfifo(path)
    both.records.join()
    assert path.is_file()

    path.write_bytes(b" " * MOST_BYTES + b"[]")
    both.records.join()
    assert accepted.read(both.work) == (W7,) == accepted.read(both.theirs)


def test_while_web_writes_it_is_left_alone_and_looked_at_again(both: Both) -> None:
    accepted.write(both.theirs, [W8])
    with holding(both.theirs):
        both.records.follow()
        assert accepted.read(both.work) == ()

    assert both.records.follow()
    assert accepted.read(both.work) == (W8,)


def test_a_damaged_file_of_ours_is_named_and_does_not_end_the_appliance(
    both: Both, caplog: pytest.LogCaptureFixture
) -> None:
    (both.work / allotment.FILE).write_text("broken")
    with pytest.raises(StateError, match=r"pod-subnets\.json: is damaged"):
        both.records.join()

    assert both.records.follow()
    assert not both.records.follow()
    assert "put it back from a backup" in caplog.text
    assert (both.work / allotment.FILE).read_text() == "broken"
