"""WHAT WE KNOW OF EACH MACHINE, WHAT HAPPENED TO IT, AND THE DOCUMENTS IT GETS: typed records over a Store.

The keys, once for all stores:

    machine/<mac>                a MachineRecord: a machine that the configuration lists, or once listed
    stranger/<mac>               a Stranger: a machine that it does not list; at most MOST_STRANGERS
    inventory/<mac>              what such a machine found in itself, as JSON; at most MOST_INVENTORIES
    accepted/<mac>               an Accepted: what the configuration would say of a machine that was accepted
    facts/<mac>                  what the installer found in the machine, as it sent it
    meta/gpu-gate                there since a pool first had GPUs: nodes may carry the gate's taint
    gpu/<mac>                    a SignedReport: what a node said of its GPUs last, with its signature
    gpu-passed/<mac>             the SignedReport with which it came through the gate
    event/<seq>                  an Event; seq counts all events from 1 without a gap and is never reused
    machine-event/<mac>/<seq>    finds the events of one machine; `unknown` for all strangers together
    certificate/<mac>            the certificate that a machine's node got for its own key
    document/<mac>/<kind>        a rendered document: live or installed
    meta/...                     counters and digests

A change of a machine and its event are one commit.
"""
