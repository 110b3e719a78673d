import os
import socket
import termios
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bootstrap.errors import LabError
from bootstrap.lab import console


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "c"))
        listener.listen(1)
        yield listener


def test_keys_go_to_the_machine_its_words_to_the_screen_and_ctrl_bracket_leaves(
    machine: socket.socket, tmp_path: Path
) -> None:
    keys, screen, typed = os.pipe(), os.pipe(), []

    def answer() -> None:
        connection, _ = machine.accept()
        with connection:
            connection.sendall(b"login: ")
            typed.append(connection.recv(100))
            os.write(keys[1], b"!\x1dnever")
            typed.append(connection.recv(100))

    thread = threading.Thread(target=answer)
    thread.start()
    os.write(keys[1], b"root\r\x03")
    console.attach(tmp_path / "c", keyboard=keys[0], screen=screen[1])
    thread.join(10)

    assert typed == [b"root\r\x03", b"!"]
    assert os.read(screen[0], 100) == b"login: "
    for end in (*keys, *screen):
        os.close(end)


def test_it_ends_when_the_machine_is_switched_off_and_gives_the_terminal_back(
    machine: socket.socket, tmp_path: Path
) -> None:
    keyboard, screen = os.openpty()
    before = termios.tcgetattr(screen)

    def answer() -> None:
        connection, _ = machine.accept()
        connection.sendall(b"bye")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    console.attach(tmp_path / "c", keyboard=screen, screen=screen)
    thread.join(10)

    assert os.read(keyboard, 100) == b"bye"
    assert termios.tcgetattr(screen) == before
    os.close(keyboard)
    os.close(screen)


def test_machine_that_is_off_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="is it switched on"):
        console.attach(tmp_path / "c", keyboard=0, screen=1)


def test_tail_is_plain_text_of_the_last_lines(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(
        b"old\r\n\x1b[2J\x1b[01;01H\x1b[0;1miPXE\x1b[0m\r\n\r\nPress...\x08 \x08\x08 \x08\x08 \x08\r\nl\xffast\x07"
    )

    assert console.tail(log, 3) == "iPXE\nPress\nl\ufffdast"


def test_tail_reads_only_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_bytes(b"x\n" * 10_000_000 + b"panic\n")

    assert console.tail(log, 2) == "x\npanic"


def test_tail_of_no_log_is_empty(tmp_path: Path) -> None:
    assert console.tail(tmp_path / "console.log") == ""
