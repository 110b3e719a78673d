"""Two processes write to one etcd at once: numbers without a gap, no change lost, and nobody starves."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from bootstrap.records.ledger import Change, Ledger, Note
from bootstrap.records.model import MachineRecord
from tests.contract.etcd_likeness import serving, store_at

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CALLERS, TURNS = 8, 12


def counted(mac: str, record: MachineRecord | None) -> Change:
    """Add one to the machine's attempts, with an event that says which one it was."""
    before = record or MachineRecord(mac=mac, name=mac, since=NOW)
    after = before.but(attempts=before.attempts + 1)
    note = Note(who="machine", what="begin", log=mac, machine=mac, decision=str(after.attempts))
    return Change(record=after, note=note)


def test_two_ledgers_lose_nothing_and_number_without_a_gap(tmp_path: Path) -> None:
    macs = [f"m{number}" for number in range(CALLERS // 2)]

    def work(ledger: Ledger, caller: int) -> None:
        mac = macs[caller % len(macs)]  # each machine is changed by two callers of each process
        for _ in range(TURNS):
            ledger.change(mac, lambda record, _: counted(mac, record))

    with serving(tmp_path) as (_, urls), ThreadPoolExecutor(2 * CALLERS) as pool:
        stores = [store_at(urls) for _ in range(2)]
        ledgers = [Ledger(store, lambda: NOW) for store in stores]
        done = [pool.submit(work, ledger, caller) for ledger in ledgers for caller in range(CALLERS)]
        for one in done:
            one.result()
        events = ledgers[0].events_after(0, 10_000)
        records = list(ledgers[1].machines())
        for store in stores:
            store.close()

    total = 2 * CALLERS * TURNS
    assert [event.seq for event in events] == list(range(1, total + 1))
    assert {record.mac: record.attempts for record in records} == {mac: total // len(macs) for mac in macs}
    for mac in macs:
        mine = [int(event.decision) for event in events if event.machine == mac]
        assert mine == list(range(1, total // len(macs) + 1))
